"""Prompts without answers, for PPO: pictures to describe, and text cases, with what the oracle needs to
judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from data_tools.scenes.language import DESCRIBE
from data_tools.scenes.structure import random_scene
from data_tools.schema import PreferenceRecord
from data_tools.synth.base import Recipe
from data_tools.synth.text_cases import random_case

FAMILIES = ("task", "harmless", "harmful")


class Prompts(Recipe):
    """Prompts about pictures and of text only."""

    type: Literal["prompts"] = "prompts"
    name: str = Field(default="prompts", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The source's name.")
    images: int = Field(default=1000, ge=0, description="How many pictures to describe.")
    texts: int = Field(
        default=200, ge=0, description="How many text-only draws; copies are dropped by the build."
    )

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        """The pictures, then the texts."""
        rng = self.rng(seed)
        for number in range(self.images):
            scene = random_scene(rng)
            yield self.picture(f"i{number:06d}", scene, rng.choice(DESCRIBE))
        for number in range(self.texts):
            family = FAMILIES[number % len(FAMILIES)]
            case = random_case(rng, family)
            yield self.words(
                f"t{number:06d}",
                case.request,
                reference={"refuse": case.refuse, "answer": case.answer},
                provenance={"family": family},
            )
