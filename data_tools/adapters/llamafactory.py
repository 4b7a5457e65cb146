"""LLaMA-Factory's rows: `conversations` ({from, value}), `messages` ({role, content}), or `instruction` and `input`.

With `chosen` and `rejected` they are pairs, with `kto_tag` or `label` yes-or-no ratings, else demonstrations. Each may
have `images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import check_text
from data_tools.adapters.chat import Turn, answer_text, read_turns, with_system
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.own_rows import EVERY, IMAGES, JudgedRows, demonstrations
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord, Response

TALKS = ("conversations", "messages")
ALPACA = ("instruction", "input", "history")
SIDES = ("chosen", "rejected")
LABELS = ("kto_tag", "label")
USED = (*LABELS, *SIDES, "system", *IMAGES)


class LlamaFactoryConfig(JudgedRows):
    """LLaMA-Factory's pairs, KTO rows and demonstrations, in its ShareGPT, OpenAI and Alpaca forms."""

    type: Literal["llamafactory"] = "llamafactory"
    answers: Literal["every", "last"] = EVERY

    marks: ClassVar[tuple[str, ...]] = ("conversations", "chosen", "rejected")

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        talk = next((key for key in TALKS if row.get(key) is not None), None)
        judged = [key for key in SIDES if row.get(key) is not None]
        if talk and len(judged) == 2 and all(_is_turn(row[key]) for key in judged):
            return f"has {talk}, chosen, rejected"
        if talk and row.get("kto_tag") is not None:
            return f"has {talk}, kto_tag"
        answers = judged if len(judged) == 2 else ["output"]
        if isinstance(row.get("instruction"), str) and all(isinstance(row.get(key), str) for key in answers):
            shown = [key for key in (*answers, *LABELS) if row.get(key) is not None]
            return f"has instruction, {', '.join(shown)}"
        return None

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord | tuple[PreferenceRecord, ...]:
        turns, read = self._turns(row)
        turns, used = with_system(turns, row.get("system")), (*read, *USED)
        pair = [key for key in SIDES if not is_blank(row.get(key))]
        if pair:
            if labels := [key for key in LABELS if not is_blank(row.get(key))]:
                raise RowError(
                    f"has both {pair[0]} and {labels[0]}: an answer is judged in one way, empty the other"
                )
            answers = [_answer(row, key) for key in SIDES]
            return self.record(row, where, turns, used, **self.compared(answers[0], answers[1:]))
        if turns[-1].role != "assistant":
            raise RowError("has none of chosen and rejected, and doesn't end with an answer", "field-missing")
        label = self.judging(row, LABELS)
        if label is not None:
            response = Response(answer_text(turns[-1:], "the last turn"))
            rating = self.rating(row[label], label)
            return self.record(row, where, turns[:-1], used, responses=(response,), ratings=(rating,))
        return demonstrations(self, row, where, turns, used, self.answers == "every")

    def _turns(self, row: dict[str, Any]) -> tuple[list[Turn], Sequence[str]]:
        """The conversation, and the fields that it is in."""
        talks = [key for key in (*TALKS, "history") if not is_blank(row.get(key))]
        if talks and talks[0] in TALKS:
            if len(talks) > 1:
                raise RowError(f"has both {' and '.join(talks)}, and only one is read: leave the other empty")
            return read_turns(row[talks[0]], talks[0]), talks
        if row.get("instruction") is None:
            if empty := [key for key in TALKS if row.get(key) is not None]:
                return read_turns(row[empty[0]], empty[0]), empty
            raise RowError(f"has none of the fields {', '.join(TALKS)}, instruction", "field-missing")
        texts = [
            check_text(row[key], key) for key in ("instruction", "input") if row.get(key) not in (None, "")
        ]
        turns = [*_history(row.get("history")), *read_turns("\n".join(texts), "instruction")]
        if is_blank(row.get("chosen")) and row.get("output") is not None:
            return [*turns, *read_turns(row["output"], "output", "assistant")], (*ALPACA, "output")
        return turns, ALPACA


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and ("value" in value or "content" in value)


def _answer(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        raise RowError(f"has no field {key}", "field-missing")
    return answer_text(read_turns(row[key], key, "assistant"), key)


def _history(value: object) -> Sequence[Turn]:
    """The turns before an instruction: a list of [what was asked, what was answered]."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise RowError("history is no list of questions and answers")
    return [
        turn
        for asked, answer in value
        for turn in (*read_turns(asked, "history"), *read_turns(answer, "history", "assistant"))
    ]
