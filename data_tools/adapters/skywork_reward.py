"""Skywork-Reward-Preference: pairs of conversations out of several sets, which `source` names."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, pair
from data_tools.adapters.dialogues import split_dialogues, take_dialogue, text_messages, with_system_text
from data_tools.adapters.provenance import others, told
from data_tools.schema import PreferenceRecord

SIDES = ("chosen", "rejected")
SOURCES = ("magpie", "wildguard", "offset", "helpsteer")  # how the names of its sets begin


class SkyworkRewardConfig(FileSource):
    """Skywork-Reward: a chosen and a rejected conversation."""

    type: Literal["skywork_reward"] = "skywork_reward"
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")
    judge: str = Field(
        default="mixed",
        min_length=1,
        description="Who judged: people in some of the sets that it is made of, models in others.",
    )

    marks: ClassVar[tuple[str, ...]] = (*SIDES, "source")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt, (chosen, rejected) = split_dialogues([take_dialogue(row, side) for side in SIDES], SIDES)
        prompt = with_system_text(prompt, row.get("system"))
        responses, comparisons = pair(chosen, rejected, self.objective, self.judge)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=text_messages(prompt),
            responses=responses,
            comparisons=comparisons,
            provenance={**told(row, ("source",)), **others(row, (*self.marks, "system"))},
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # any set in TRL's form may have the same three fields
        name = row.get("source")
        known = isinstance(name, str) and name.lower().startswith(SOURCES)
        if known and row.get("prompt") is None and all(isinstance(row.get(side), list) for side in SIDES):
            return "has chosen, rejected and one of Skywork's sources"
        return None
