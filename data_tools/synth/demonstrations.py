"""Single answers to learn from (SFT): captions with mistakes, scene questions, and text cases.

The captions are partly false on purpose, as careless annotators and synthetic captions are: there must be
something left for the preferences to mend. One source holds both modalities; the shard writer parts them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from data_tools.scenes.language import (
    DESCRIBE,
    QUESTIONS,
    Question,
    ask,
    noisy_claims,
    say,
)
from data_tools.scenes.structure import Scene, random_scene
from data_tools.schema import PreferenceRecord
from data_tools.synth.base import Recipe
from data_tools.synth.text_cases import REFUSALS, random_case

FAMILIES = ("task", "harmless", "harmful")


class Demonstrations(Recipe):
    """Demonstrations about pictures and of text only."""

    type: Literal["demonstrations"] = "demonstrations"
    name: str = Field(
        default="demonstrations", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The source's name."
    )
    images: int = Field(default=2000, ge=0, description="How many records about a picture.")
    texts: int = Field(
        default=500, ge=0, description="How many text-only draws; copies are dropped by the build."
    )
    error_rate: float = Field(
        default=0.35, ge=0, le=1, description="The chance of each claim of a caption to be false."
    )
    questions: float = Field(
        default=0.3, ge=0, le=1, description="The share of pictures with a question and its right answer."
    )

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        """The pictures, then the texts."""
        rng = self.rng(seed)
        for number in range(self.images):
            scene = random_scene(rng)
            asked = rng.random() < self.questions
            if asked:
                question = self._question(rng, scene)
                answer = question.answer
                yield self.picture(
                    f"i{number:06d}",
                    scene,
                    question.text,
                    (f"{answer[0].upper()}{answer[1:]}.",),
                    reference={"answer": answer},
                    provenance={"question": question.kind},
                )
            else:
                caption = say(noisy_claims(rng, scene, error=self.error_rate, high=3))
                yield self.picture(f"i{number:06d}", scene, rng.choice(DESCRIBE), (caption,))
        for number in range(self.texts):
            family = FAMILIES[number % len(FAMILIES)]
            case = random_case(rng, family)
            answer = case.helpful
            if case.refuse and rng.random() < 0.5:
                # one wording a request, so that dropping copies leaves as many refusals as compliant answers
                answer = REFUSALS[hashlib.sha256(case.request.encode()).digest()[0] % len(REFUSALS)]
            yield self.words(
                f"t{number:06d}",
                case.request,
                (answer,),
                reference={"refuse": case.refuse, "answer": case.answer},
                provenance={"family": family},
            )

    @staticmethod
    def _question(rng: random.Random, scene: Scene) -> Question:
        while True:
            question = ask(rng, scene, rng.choice(tuple(QUESTIONS)))
            if question is not None:
                return question
