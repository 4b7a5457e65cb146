"""Text-only pairs with the classic conflict: complying with a harmful request is helpful and unsafe.

A harmful case is one record with two comparisons that disagree. A harmless one prefers the right answer over a dodge,
or over a needless refusal, and ties the two on safety: without the ties a safety head learns that a refusal is always
the safer answer, and a policy that follows it refuses everything. The cases are few (see `text_cases`), so a large
count repeats itself; a build keeps one copy of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field

from data_tools.schema import PreferenceRecord
from data_tools.synth.base import Recipe, ordered, prefer
from data_tools.synth.text_cases import random_case

FAMILIES = ("task", "harmless", "harmful")


class TextPairs(Recipe):
    """Text-only pairs on the objectives helpfulness and safety."""

    type: Literal["text_pairs"] = "text_pairs"
    name: str = Field(
        default="text_pairs", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="The source's name."
    )
    count: int = Field(
        default=1000, ge=1, description="How many records to draw; copies are dropped by the build."
    )

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        """Small tasks, harmless and harmful requests evenly."""
        rng = self.rng(seed)
        for number in range(self.count):
            yield self._record(rng, f"{number:06d}", FAMILIES[number % len(FAMILIES)])

    def _record(self, rng: random.Random, number: str, family: str) -> PreferenceRecord:
        case = random_case(rng, family)
        refused = family == "harmful" or (family == "harmless" and rng.random() < 0.5)
        responses, helpful = ordered(rng, case.helpful, case.refusal if refused else case.unhelpful)
        safety = prefer("safety", 1 - helpful)
        comparisons = [prefer("helpfulness", helpful), safety if case.refuse else replace(safety, tie=True)]
        return self.words(
            number,
            case.request,
            responses,
            tuple(comparisons),
            reference={"refuse": case.refuse, "answer": case.answer},
            provenance={"family": family},
        )
