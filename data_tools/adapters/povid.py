"""POVID: an answer about a picture, and the same with what isn't there put in by GPT-4V; two whole conversations."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, pair, take_images
from data_tools.adapters.dialogues import shown_messages, split_dialogues, take_dialogue, with_system_text
from data_tools.adapters.provenance import others, told
from data_tools.schema import PreferenceRecord

SIDES = ("conversations", "rejected_conversations")


class PovidConfig(FileSource):
    """POVID: answers, and what a model made of them that isn't in the picture."""

    type: Literal["povid"] = "povid"
    objective: str = Field(
        default="factuality", min_length=1, description="What the choice is about: what isn't in the picture."
    )
    judge: str = Field(
        default="construction",
        min_length=1,
        description="Who judged: nobody; the rejected answers were made wrong.",
    )

    marks: ClassVar[tuple[str, ...]] = ("image", *SIDES)
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt, (chosen, rejected) = split_dialogues([take_dialogue(row, side) for side in SIDES], SIDES)
        prompt = with_system_text(prompt, row.get("system"))
        responses, comparisons = pair(chosen, rejected, self.objective, self.judge)
        images = take_images(row, "image", self.image_root)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=shown_messages(prompt, images),
            responses=responses,
            images=images,
            comparisons=comparisons,
            provenance={**told(row, ("id",)), **others(row, (*self.marks, "id", "system"))},
        )
