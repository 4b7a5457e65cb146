"""align-anything's TI2T part: a question about a picture, and which of two answers is better."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, take_choice, take_text
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import others
from data_tools.schema import Comparison, PreferenceRecord, Response

ANSWERS = ("response_1", "response_2")
CHOICE = "overall_response"


class AlignAnythingConfig(FileSource):
    """align-anything TI2T: the better of two answers, 1 or 2."""

    type: Literal["align_anything"] = "align_anything"
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")
    judge: str = Field(default="unknown", min_length=1, description="Who judged; the rows don't say.")

    marks: ClassVar[tuple[str, ...]] = ("question", "image", *ANSWERS, CHOICE)
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        answers = [take_text(row, key) for key in ANSWERS]
        if answers[0] == answers[1]:
            raise RowError(f"{' and '.join(ANSWERS)} are the same answer", "same-answers")
        better = take_choice(row, CHOICE)
        return pictured(
            self,
            row,
            where,
            take_text(row, "question"),
            responses=tuple(map(Response, answers)),
            comparisons=(Comparison(self.objective, better, 1 - better, judge=self.judge),),
            provenance=others(row, self.marks),
        )
