"""Tulu 3's preference mixtures: the prompt as a text, and two conversations that begin with it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, model_name, pair, take_text
from data_tools.adapters.dialogues import split_dialogues, take_dialogue, text_messages, with_system_text
from data_tools.adapters.provenance import others, told
from data_tools.schema import PreferenceRecord

SIDES = ("chosen", "rejected")
MODELS = ("chosen_model", "rejected_model")
SOURCES = ("ai2-adapt-dev", "allenai", "tulu")  # one of which is in the names of its sets
KEPT = ("id", "source", "chosen_rating", "rejected_rating")


class Tulu3Config(FileSource):
    """Tulu 3's mixtures: which of two answers GPT-4o rated higher."""

    type: Literal["tulu3"] = "tulu3"
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")
    judge: str = Field(default="gpt-4o", min_length=1, description="Who judged.")

    marks: ClassVar[tuple[str, ...]] = ("id", "prompt", *SIDES, "source")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        asked = take_text(row, "prompt")
        prompt, (chosen, rejected) = split_dialogues([take_dialogue(row, side) for side in SIDES], SIDES)
        prompt = with_system_text(prompt, row.get("system"))
        models = tuple(model_name(row.get(model)) for model in MODELS)
        responses, comparisons = pair(chosen, rejected, self.objective, self.judge, (models[0], models[1]))
        # of several turns the field has one only; where it has none of them, it is kept for a person to look at
        stray = {} if any(asked == text for _, text in prompt) else told(row, ("prompt",))
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=text_messages(prompt),
            responses=responses,
            comparisons=comparisons,
            provenance={**told(row, KEPT), **stray, **others(row, (*self.marks, *MODELS, *KEPT, "system"))},
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # any set in TRL's form may have the same five fields; the names of this one's sets are Ai2's
        asked, source, answers = row.get("prompt"), row.get("source"), [row.get(side) for side in SIDES]
        known = isinstance(source, str) and any(name in source.lower() for name in SOURCES)
        talks = all(isinstance(turns, list) and len(turns) > 1 for turns in answers)
        if known and isinstance(asked, str) and talks and super().recognise(row):
            return f"{super().recognise(row)}, which names a set of Ai2's"
        return None
