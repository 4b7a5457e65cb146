"""Rows of `messages` ({role, content}), as OpenAI, TRL and ms-swift have them: demonstrations; with `rejected_response`
or `rejected_messages` pairs; with a `label` yes-or-no ratings; with a right answer, or ending with the user, prompts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from data_tools.adapters.chat import Turn, answer_text, read_turns, with_system
from data_tools.adapters.own_rows import (
    EVERY,
    IMAGES,
    JudgedRows,
    demonstrations,
    refuse_tools,
    take_reference,
)
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord, Response

USED = ("messages", "system", "rejected_response", "rejected_messages", "label", *IMAGES)


class MessagesConfig(JudgedRows):
    """Conversations as lists of messages: demonstrations, pairs, yes-or-no labels or prompts."""

    type: Literal["messages"] = "messages"
    answers: Literal["every", "last"] = EVERY

    marks: ClassVar[tuple[str, ...]] = ("messages",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord | tuple[PreferenceRecord, ...]:
        refuse_tools(row)
        if row.get("messages") is None:
            raise RowError("has no field messages", "field-missing")
        turns = with_system(read_turns(row["messages"], "messages"), row.get("system"))
        rejected = self._rejected(row, turns)
        if rejected:
            chosen = answer_text(turns[-1:], "the last message")
            return self.record(row, where, turns[:-1], USED, **self.compared(chosen, rejected))
        if row.get("label") is not None:
            response = Response(answer_text(turns[-1:], "the last message"))
            rating = self.rating(row["label"], "label")
            return self.record(row, where, turns[:-1], USED, responses=(response,), ratings=(rating,))
        reference, key = take_reference(row)
        if turns[-1].role == "user":
            return self.record(row, where, turns, (*USED, key), reference=reference)
        return demonstrations(
            self, row, where, turns, (*USED, key), self.answers == "every", reference=reference
        )

    def _rejected(self, row: dict[str, Any], turns: list[Turn]) -> list[str]:
        """The answers to which the last message was preferred; none where the row has none."""
        given = row.get("rejected_response")
        if given is not None:
            listed = (
                given if isinstance(given, list) and all(isinstance(text, str) for text in given) else [given]
            )
            texts = [
                answer_text(read_turns(text, "rejected_response", "assistant"), "rejected_response")
                for text in listed
            ]
            if row.get("rejected_messages") is None:
                return texts
            raise RowError("has both rejected_response and rejected_messages")
        if row.get("rejected_messages") is None:
            return []
        other = with_system(read_turns(row["rejected_messages"], "rejected_messages"), row.get("system"))
        if len(other) > 1 and other[:-1] != turns[:-1]:
            raise RowError("messages and rejected_messages don't share a prompt")
        return [answer_text(other[-1:], "the last of rejected_messages")]

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if not isinstance(row.get("messages"), list | str | dict) or "chosen" in row or "rejected" in row:
            return None
        more = ("rejected_response", "rejected_messages", "label", "solution", "answer", "images")
        return f"has {', '.join(key for key in ('messages', *more) if row.get(key) is not None)}"
