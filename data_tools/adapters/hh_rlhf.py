"""Anthropic's hh-rlhf: two transcripts that share all but the last answer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, pair, take_text
from data_tools.adapters.dialogues import check_shared, text_messages, with_system_text
from data_tools.adapters.provenance import others
from data_tools.adapters.transcript import ANSWER, TURN, is_transcript, speakers
from data_tools.schema import PreferenceRecord


class HhRlhfConfig(FileSource):
    """hh-rlhf: JSON lines with `chosen` and `rejected` transcripts."""

    type: Literal["hh_rlhf"] = "hh_rlhf"
    objective: str = Field(
        default="safety",
        min_length=1,
        description="What the people judged: safety in harmless-base, helpfulness in helpful-base.",
    )
    judge: str = Field(default="human", min_length=1, description="Who judged.")
    refuse: bool | None = Field(
        default=None,
        description="Whether its prompts must be refused, so that an evaluation can tell what a policy refuses: true "
        "for red-teamers' prompts (not all of them are harmful), false for benign ones. null: that isn't known.",
    )

    marks: ClassVar[tuple[str, ...]] = ("chosen", "rejected")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt, chosen = _last_answer(row, "chosen")
        other, rejected = _last_answer(row, "rejected")
        turns = speakers(prompt)
        if prompt != other:
            check_shared([turns, speakers(other)], self.marks)
        responses, comparisons = pair(chosen, rejected, self.objective, self.judge)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=text_messages(with_system_text(turns, row.get("system"))),
            responses=responses,
            comparisons=comparisons,
            reference={} if self.refuse is None else {"refuse": self.refuse},
            provenance=others(row, (*self.marks, "system")),
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        both = [row.get(mark) for mark in cls.marks]
        if all(isinstance(text, str) and is_transcript(text) for text in both):
            return "chosen and rejected are transcripts of Human and Assistant"
        return None


def _last_answer(row: dict[str, Any], key: str) -> tuple[str, str]:
    """The transcript before its last answer, and that answer."""
    before, mark, answer = take_text(row, key).rpartition(ANSWER)
    if not mark:
        raise RowError(f"{key} is no transcript: it has no Assistant turn after a Human one")
    if not answer.strip():
        raise RowError(f"the last answer of {key} is empty", "text-empty")
    if TURN.search(answer.rstrip()):
        raise RowError(f"{key} doesn't end with an Assistant turn")
    return before.strip(), answer.strip()
