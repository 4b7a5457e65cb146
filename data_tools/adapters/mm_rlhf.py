"""MM-RLHF's `dpo_pairs.jsonl`: `image` or `video`, `prompt, chosen, rejected`, and people's reasons for both.

`ls_factor`, of which the data say nothing more, is kept as it is. Rows with a video are refused.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    RowError,
    check_text,
    pair,
    take_text,
)
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import told
from data_tools.schema import Critique, PreferenceRecord

REASONS = ("chosen_reason", "rejected_reason")


class MmRlhfConfig(FileSource):
    """MM-RLHF: pairs out of people's rankings, with what they said of each answer."""

    type: Literal["mm_rlhf"] = "mm_rlhf"
    objective: str = Field(
        default="helpfulness", min_length=1, description="What the choice was about: the answer as a whole."
    )

    judge: str = Field(default="human", min_length=1, description="Who judged.")

    marks: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        if row.get("video") not in (None, ""):  # some tables have both fields in every row
            raise RowError("shows a video, which is not supported", "not-supported")
        responses, comparisons = pair(
            take_text(row, "chosen"), take_text(row, "rejected"), self.objective, self.judge
        )
        asked = take_text(row, "prompt")
        critiques = tuple(
            Critique(check_text(row[key], key), index, self.objective, self.judge)
            for index, key in enumerate(REASONS)
            if row.get(key) not in (None, "")
        )
        return pictured(
            self,
            row,
            where,
            asked,
            responses=responses,
            comparisons=comparisons,
            critiques=critiques,
            provenance=told(row, ("id", "ls_factor")),
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # TRL's rows have the same three fields; only these have one of the others
        own = [key for key in ("video", *REASONS, "ls_factor") if key in row]
        return f"{super().recognise(row)}, {', '.join(own)}" if own and super().recognise(row) else None
