"""Rows of `messages` ({role, content}), as OpenAI, TRL and ms-swift have them: demonstrations; with `rejected_response`
or `rejected_messages` pairs; with a `label` yes-or-no ratings; with a right answer, or ending with the user, prompts.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from data_tools.adapters.chat import Turn, answer_text, read_turns, with_system
from data_tools.adapters.dialogues import check_shared
from data_tools.adapters.own_rows import (
    EVERY,
    IMAGES,
    JudgedRows,
    demonstrations,
    is_blank,
    take_reference,
)
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord, Response

JUDGED = ("rejected_response", "rejected_messages", "label")
USED = ("messages", "system", *JUDGED, *IMAGES)


class MessagesConfig(JudgedRows):
    """Conversations as lists of messages: demonstrations, pairs, yes-or-no labels or prompts."""

    type: Literal["messages"] = "messages"
    answers: Literal["every", "last"] = EVERY

    marks: ClassVar[tuple[str, ...]] = ("messages",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord | tuple[PreferenceRecord, ...]:
        if row.get("messages") is None:
            raise RowError("has no field messages", "field-missing")
        turns = with_system(read_turns(row["messages"], "messages"), row.get("system"))
        by = self.judging(row, JUDGED) if turns[-1].role == "assistant" else None
        if by == "label":
            response = Response(answer_text(turns[-1:], "the last message"))
            rating = self.rating(row["label"], "label")
            return self.record(row, where, turns[:-1], USED, responses=(response,), ratings=(rating,))
        if by is not None:
            rejected = self._rejected(row, by, turns)
            chosen = answer_text(turns[-1:], "the last message")
            return self.record(row, where, turns[:-1], USED, **self.compared(chosen, rejected))
        reference, key = take_reference(row)
        if turns[-1].role == "user":
            if held := [name for name in JUDGED if not is_blank(row.get(name))]:
                raise RowError(f"has {held[0]}, but messages doesn't end with an answer")
            return self.record(row, where, turns, (*USED, key), reference=reference)
        return demonstrations(
            self, row, where, turns, (*USED, key), self.answers == "every", reference=reference
        )

    def _rejected(self, row: dict[str, Any], key: str, turns: list[Turn]) -> list[str]:
        """The answers in the field `key`, to which the last message was preferred."""
        given = row[key]
        if key == "rejected_response":
            several = isinstance(given, list) and all(isinstance(text, str) for text in given)
            return [
                answer_text(read_turns(text, key, "assistant"), key)
                for text in (given if several else [given])
            ]
        other = read_turns(given, key)
        if len(other) > 1:
            other = with_system(other, row.get("system"))
            talks = [[(turn.role, turn.pieces) for turn in talk[:-1]] for talk in (turns, other)]
            check_shared(talks, ("messages", key))
        return [answer_text(other[-1:], f"the last of {key}")]

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if not isinstance(row.get("messages"), list | str | dict) or any(
            row.get(key) is not None for key in ("chosen", "rejected")
        ):
            return None
        more = ("rejected_response", "rejected_messages", "label", "solution", "answer", "images")
        return f"has {', '.join(key for key in ('messages', *more) if row.get(key) is not None)}"
