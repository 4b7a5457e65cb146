"""MMPR 1.0 to 1.2: pairs of answers of which one is wrong or went on without the picture, so that nobody judged them.

`image` is a path, a list of paths, or isn't there: rows of text only exist. `answer_gt` is the right answer.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, pair, question, take_images, take_text
from data_tools.adapters.provenance import others, told
from data_tools.schema import PreferenceRecord

GIVEN = "answer_gt"


class MmprConfig(FileSource):
    """MMPR: which of two answers is right, by the right answer or by how the other one was made."""

    type: Literal["mmpr"] = "mmpr"
    objective: str = Field(default="factuality", min_length=1, description="What the choice is about.")
    judge: str = Field(
        default="construction", min_length=1, description="Who judged: nobody; the pairs were made by rules."
    )

    marks: ClassVar[tuple[str, ...]] = ("question", "chosen", "rejected", GIVEN)
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        responses, comparisons = pair(
            take_text(row, "chosen"), take_text(row, "rejected"), self.objective, self.judge
        )
        images = take_images(row, "image", self.image_root, needed=False)
        answer = row.get(GIVEN)
        is_text = isinstance(answer, str) and bool(answer.strip())
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=question(take_text(row, "question"), images),
            responses=responses,
            images=images,
            comparisons=comparisons,
            reference={"answer": take_text(row, GIVEN)} if is_text else {},
            provenance={
                **({} if is_text else told(row, (GIVEN,))),
                **others(row, (*self.marks, "image")),
            },
        )
