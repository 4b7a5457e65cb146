"""RLHF-V-Dataset: people rewrote the wrong segments of a model's answer; the corrected answer is the chosen one.

`text` is a JSON text `{question, chosen, rejected}`; `origin_split` is another, which names the model that wrote the
rejected answer. So a row is a comparison and a correction.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, pair, take_text
from data_tools.adapters.openbmb import ORIGIN, author, origin
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import others
from data_tools.rows.json_value import parse
from data_tools.schema import Correction, PreferenceRecord


class RlhfVConfig(FileSource):
    """RLHF-V: segment-level human corrections of hallucinations."""

    type: Literal["rlhf_v"] = "rlhf_v"
    objective: str = Field(
        default="factuality", min_length=1, description="What was corrected: what isn't in the picture."
    )

    judge: str = Field(default="human", min_length=1, description="Who corrected.")

    marks: ClassVar[tuple[str, ...]] = ("image", "text", "origin_dataset")
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        texts = _texts(row)
        responses, comparisons = pair(
            take_text(texts, "chosen", "chosen of text"),
            take_text(texts, "rejected", "rejected of text"),
            self.objective,
            judge=self.judge,
            models=(None, author(row)),
        )
        asked = take_text(texts, "question", "question of text")
        return pictured(
            self,
            row,
            where,
            asked,
            responses=responses,
            comparisons=comparisons,
            corrections=(Correction(self.objective, corrected=0, original=1, judge=self.judge),),
            provenance={**origin(row), **others(row, (*self.marks, *ORIGIN))},
        )


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    """`text` as an object; some copies hold it as one already."""
    value = row.get("text")
    if not isinstance(value, dict):
        try:
            value = parse(take_text(row, "text").encode("utf-8"))
        except (ValueError, RecursionError):
            raise RowError("text is not valid JSON") from None
    if not isinstance(value, dict):
        raise RowError("text is no JSON object of question, chosen and rejected")
    return value
