"""What the recipes share: their random stream, and records of a drawn scene or of a text case."""

from __future__ import annotations

import random

from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from data_tools.source import Source


class Recipe(Source):
    """Base of the recipes."""

    def rng(self, seed: int) -> random.Random:
        """The recipe's own stream: independent of other sources, the same for the same seed and name."""
        return random.Random(f"{seed}/{self.name}")

    def picture(
        self,
        record_id: str,
        scene: Scene,
        prompt: str,
        responses: tuple[str, ...] = (),
        comparisons: tuple[Comparison, ...] = (),
        reference: dict[str, object] | None = None,
        provenance: dict[str, object] | None = None,
    ) -> PreferenceRecord:
        """A record about a picture of the scene."""
        return PreferenceRecord(
            id=f"{self.name}-{record_id}",
            source=self.name,
            prompt=(user(0, prompt),),
            responses=tuple(Response(text) for text in responses),
            images=(ImageRef.of_bytes(to_png(scene)),),
            comparisons=comparisons,
            scenes=(scene.to_json(),),
            reference=reference or {},
            provenance={"recipe": type(self).model_fields["type"].default, **(provenance or {})},
        )

    def words(
        self,
        record_id: str,
        prompt: str,
        responses: tuple[str, ...] = (),
        comparisons: tuple[Comparison, ...] = (),
        reference: dict[str, object] | None = None,
        provenance: dict[str, object] | None = None,
    ) -> PreferenceRecord:
        """A text-only record."""
        return PreferenceRecord(
            id=f"{self.name}-{record_id}",
            source=self.name,
            prompt=(user(prompt),),
            responses=tuple(Response(text) for text in responses),
            comparisons=comparisons,
            reference=reference or {},
            provenance={"recipe": type(self).model_fields["type"].default, **(provenance or {})},
        )


def ordered(rng: random.Random, better: str, worse: str) -> tuple[tuple[str, str], int]:
    """Both answers in random order, and the index of the better one."""
    return ((better, worse), 0) if rng.random() < 0.5 else ((worse, better), 1)


def prefer(objective: str, better: int) -> Comparison:
    """The oracle's choice between two answers."""
    return Comparison(objective, better=better, worse=1 - better, judge="oracle")
