"""RLAIF-V-Dataset: pairs of a model's answers that open models judged by their claims; several pairs an image.

`origin_split` is a JSON text that names the model that wrote both answers. By the data card it names the labeling model
too, but not under which key, so the judge is called what `judge` says; the text itself is kept.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, pair, take_text
from data_tools.adapters.openbmb import ORIGIN, author, origin
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import others
from data_tools.schema import PreferenceRecord


class RlaifVConfig(FileSource):
    """RLAIF-V: which of two answers has fewer hallucinations, by open models."""

    type: Literal["rlaif_v"] = "rlaif_v"
    objective: str = Field(
        default="factuality",
        min_length=1,
        description="What the choice was about: what isn't in the picture.",
    )
    judge: str = Field(
        default="model", min_length=1, description="Who judged; the rows don't say it plainly."
    )

    marks: ClassVar[tuple[str, ...]] = ("ds_name", "image", "question", "chosen", "rejected")
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        model = author(row)
        responses, comparisons = pair(
            take_text(row, "chosen"),
            take_text(row, "rejected"),
            self.objective,
            judge=self.judge,
            models=(model, model),
        )
        asked = take_text(row, "question")
        return pictured(
            self,
            row,
            where,
            asked,
            responses=responses,
            comparisons=comparisons,
            provenance={**origin(row), **others(row, (*self.marks, *ORIGIN))},
        )
