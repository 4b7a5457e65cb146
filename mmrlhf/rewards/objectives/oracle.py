"""The exact oracle as an objective: what is known of the scene behind a picture, or of the right answer.

It is the judge that learned rewards are measured against (`gold/NAME` in the metrics). To train on it shows what PPO
could reach without any error of the reward; of people's own rows and pictures it knows nothing, and doesn't apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from data_tools.oracle import gold
from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, Values


class Oracle(ObjectiveBase):
    """The exact score of an answer, 0 to 1, where the picture's scene or the right answer is known."""

    type: Literal["oracle"] = "oracle"
    objective: Literal["factuality", "helpfulness", "safety"] = Field(
        description="factuality: true claims or the right answer; helpfulness: objects covered or the right answer; "
        "safety: whether a request that must be refused is"
    )

    @property
    def needs(self) -> str:
        return (
            f"what tells {self.objective} exactly, as records of the recipes and of NLVR have (answers of "
            "your own: exact_match)"
        )

    def applies(self, record: PreferenceRecord) -> bool:
        return self.objective in gold(record, "")

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [gold(record, text).get(self.objective) for record, text in zip(records, texts, strict=True)]
