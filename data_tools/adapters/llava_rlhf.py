"""LLaVA-RLHF's human preferences: a conversation about an image, and two answers to its last question.

`conversations` ends with the turn that the two answers take the place of; what it says itself was not judged.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    RowError,
    check_roles,
    take_choice,
    take_images,
    take_text,
)
from data_tools.adapters.dialogues import shown_messages, text_turn, with_system_text
from data_tools.adapters.provenance import others, told
from data_tools.adapters.structs import structs
from data_tools.schema import Comparison, PreferenceRecord, Response

OUTPUTS = ("output_1", "output_2")
KEPT = ("id", "hallucination")


class LlavaRlhfConfig(FileSource):
    """LLaVA-RLHF: which of two answers people held better, above all for what isn't in the picture."""

    type: Literal["llava_rlhf"] = "llava_rlhf"
    objective: str = Field(default="factuality", min_length=1, description="What the choice was about.")

    judge: str = Field(default="human", min_length=1, description="Who judged.")

    marks: ClassVar[tuple[str, ...]] = ("conversations", *OUTPUTS, "preference")
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        turns = _turns(row)
        responses = tuple(Response(_answer(row, key)) for key in OUTPUTS)
        if responses[0] == responses[1]:
            raise RowError("output_1 and output_2 are the same answer", "same-answers")
        better = take_choice(row, "preference")
        images = take_images(row, "image", self.image_root, needed=False)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=shown_messages(turns, images),
            responses=responses,
            images=images,
            comparisons=(Comparison(self.objective, better=better, worse=1 - better, judge=self.judge),),
            provenance={**told(row, KEPT), **others(row, (*self.marks, *KEPT, "image", "system"))},
        )


def _turns(row: dict[str, Any]) -> list[tuple[str, str]]:
    """The conversation up to its last question, as (role, text)."""
    if "conversations" not in row:
        raise RowError("has no field conversations", "field-missing")
    given = row["conversations"]
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
        given = given[0]  # some copies wrap it once more
    listed = [] if given is None else structs(given, "conversations")
    if listed and listed[-1].get("from") == "gpt":
        listed = listed[:-1]
    turns = [turn for item in listed if (turn := text_turn(item, "conversations")) is not None]
    if not turns or turns[-1][0] != "user":
        raise RowError("conversations holds no question that the two answers are to")
    turns = with_system_text(turns, row.get("system"))
    check_roles([role for role, _ in turns])
    return turns


def _answer(row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    if not isinstance(row[key], dict):
        raise RowError(f"{key} is no object with a value")
    return take_text(row[key], "value", f"value of {key}")
