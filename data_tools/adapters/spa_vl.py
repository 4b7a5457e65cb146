"""SPA-VL: safety preferences, `question, image, chosen, rejected`.

The published Parquet has `image_name` in its training part and `class1` to `class3` in its validation part; the
repository's JSON has `id`. The test part holds questions only, which are no preferences.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, pair, take_text
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import others, told
from data_tools.schema import PreferenceRecord

NAME = "image_name"
CLASSES = ("class1", "class2", "class3")
OWN = (NAME, *CLASSES)


class SpaVlConfig(FileSource):
    """SPA-VL: which of two answers to a risky question is safer."""

    type: Literal["spa_vl"] = "spa_vl"
    objective: str = Field(default="safety", min_length=1, description="What the choice was about.")
    judge: str = Field(default="model", min_length=1, description="Who judged; the rows don't say.")

    marks: ClassVar[tuple[str, ...]] = ("question", "image", "chosen", "rejected")
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        responses, comparisons = pair(
            take_text(row, "chosen"), take_text(row, "rejected"), self.objective, judge=self.judge
        )
        asked = take_text(row, "question")
        return pictured(
            self,
            row,
            where,
            asked,
            responses=responses,
            comparisons=comparisons,
            provenance={**told(row, ("id", *OWN)), **others(row, (*self.marks, "id", *OWN))},
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # any set of pairs about pictures may have these four and the name of the picture
        held = {key for key, value in row.items() if value is not None}
        if held.issuperset((*cls.marks, *CLASSES)):
            return f"has {', '.join((*cls.marks, *CLASSES))}"
        published = held == {*cls.marks, NAME} and isinstance(row["image"], dict)
        return (
            f"has {', '.join((*cls.marks, NAME))}, a picture with its bytes, and no more"
            if published
            else None
        )
