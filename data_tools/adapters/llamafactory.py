"""LLaMA-Factory's DPO rows: `conversations`, `chosen`, `rejected`; `images` in place of `<image>` marks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import (
    MARK,
    FileSource,
    RowError,
    check_roles,
    check_text,
    messages_with_images,
    pair,
    take_image,
    take_list,
)
from data_tools.adapters.provenance import others
from data_tools.adapters.structs import structs
from data_tools.adapters.turns import take_turn
from data_tools.schema import PreferenceRecord


class LlamaFactoryConfig(FileSource):
    """LLaMA-Factory preference data in its ShareGPT form."""

    type: Literal["llamafactory"] = "llamafactory"
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")

    marks: ClassVar[tuple[str, ...]] = ("conversations", "chosen", "rejected")

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        turns = [row.get(key) for key in ("chosen", "rejected")]
        if all(isinstance(turn, dict) and "from" in turn and "value" in turn for turn in turns):
            return super().recognise(row)
        return None

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        for key in ("videos", "audios", "tools"):
            if row.get(key):
                raise RowError(f"has {key}, which are not supported", "not-supported")
        for key in self.marks:
            if row.get(key) is None:
                raise RowError(f"has no field {key}", "field-missing")
        turns = [take_turn(turn) for turn in structs(row["conversations"], "conversations")]
        if isinstance(row.get("system"), str) and row["system"].strip():
            turns.insert(0, ("system", check_text(row["system"], "system")))
        if not turns or turns[-1][0] != "user":
            raise RowError("conversations doesn't end with a human turn")
        check_roles([role for role, _ in turns])
        answers = []
        for key in ("chosen", "rejected"):
            role, text = take_turn(row[key], key)
            if role != "assistant":
                raise RowError(f"{key} is no gpt turn")
            if MARK in text:
                raise RowError(f"{key} holds an {MARK} mark")
            answers.append(text)
        responses, comparisons = pair(answers[0], answers[1], self.objective, self.judge)
        images = tuple(take_image(image, self.image_root) for image in take_list(row, "images"))
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=messages_with_images(turns, images),
            responses=responses,
            images=images,
            comparisons=comparisons,
            provenance=others(row, (*self.marks, "system", "tools")),
        )
