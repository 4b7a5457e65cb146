"""MM-RLHF's `dpo_pairs.jsonl`: `image` or `video`, `prompt, chosen, rejected`, and people's reasons for both.

`is_tie` says that the two are equally good. `ls_factor`, of which the data say nothing more, is kept as it is. Rows
about a video are counted apart. The main table, `data.jsonl`, is read by `data_tools.adapters.mm_rlhf_ratings`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    RowError,
    check_text,
    pair,
    take_images,
    take_text,
)
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.pictured import marked_question, refuse_video
from data_tools.adapters.provenance import others, told
from data_tools.schema import Critique, PreferenceRecord

REASONS = ("chosen_reason", "rejected_reason")
KEPT = ("id", "ls_factor")


class MmRlhfConfig(FileSource):
    """MM-RLHF: pairs out of people's rankings, with what they said of each answer."""

    type: Literal["mm_rlhf"] = "mm_rlhf"
    objective: str = Field(
        default="helpfulness", min_length=1, description="What the choice was about: the answer as a whole."
    )
    judge: str = Field(default="human", min_length=1, description="Who judged.")

    marks: ClassVar[tuple[str, ...]] = ("prompt", "chosen", "rejected")
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        refuse_video(row)
        responses, (comparison,) = pair(
            take_text(row, "chosen"), take_text(row, "rejected"), self.objective, self.judge
        )
        critiques = tuple(
            Critique(check_text(row[key], key), index, self.objective, self.judge)
            for index, key in enumerate(REASONS)
            if not is_blank(row.get(key))
        )
        images = take_images(row, "image", self.image_root)
        prompt, marks = marked_question(take_text(row, "prompt"), images)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=prompt,
            responses=responses,
            images=images,
            comparisons=(dataclasses.replace(comparison, tie=_is_tie(row)),),
            critiques=critiques,
            provenance={
                **told(row, KEPT),
                **marks,
                **others(row, (*self.marks, *REASONS, *KEPT, "image", "video", "is_tie")),
            },
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # TRL's rows have the same three fields, and may have a picture and say that the two are a tie
        own = [key for key in ("video", *REASONS, "ls_factor") if row.get(key) not in (None, "", [])]
        shown = any(row.get(key) not in (None, "", []) for key in ("image", "video"))
        return (
            f"{super().recognise(row)}, {', '.join(own)}"
            if own and shown and super().recognise(row)
            else None
        )


def _is_tie(row: dict[str, Any]) -> bool:
    value = row.get("is_tie")
    if value is None:
        return False
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise RowError("is_tie is neither true nor false")
