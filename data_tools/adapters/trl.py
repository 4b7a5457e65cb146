"""TRL's rows: `prompt`, `chosen`, `rejected`; `prompt`, `completion`, `label` (KTO); `prompt`, `completion` (SFT). Each
may have `images`.

Texts or lists of messages. The prompt may also be what both answers begin with; as in TRL, it is that wherever the
answers are whole conversations and the prompt is a text.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import check_text
from data_tools.adapters.chat import Turn, answer_text, read_turns, with_system
from data_tools.adapters.dialogues import check_shared
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.own_rows import IMAGES, JudgedRows, demonstrated_text
from data_tools.adapters.row_error import RowError
from data_tools.adapters.templated import refuse_templated
from data_tools.adapters.transcript import ANSWER, is_transcript, speakers
from data_tools.schema import PreferenceRecord, Response

SIDES = ("chosen", "rejected")
USED = ("prompt", "system", *SIDES, "completion", "label", "margin", *IMAGES)


class TrlConfig(JudgedRows):
    """TRL's preferences, unpaired preferences and prompts with completions."""

    type: Literal["trl"] = "trl"

    marked: ClassVar[bool] = False

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        for key in SIDES:
            if row.get(key) is None and row.get(f"{key}_messages") is not None:
                row[key] = row.pop(f"{key}_messages")
        sides = [key for key in SIDES if not is_blank(row.get(key))]
        if sides and not is_blank(row.get("completion")):
            raise RowError(
                f"has both completion and {' and '.join(sides)}: a row is of one form, leave the other empty"
            )
        if sides or row.get("completion") is None:
            prompt, answers, used = _split(row, SIDES)
            chosen, rejected = (
                answer_text(turns, key, marked=False) for turns, key in zip(answers, SIDES, strict=True)
            )
            return self.record(row, where, prompt, used, **self.compared(chosen, [rejected], _margin(row)))
        prompt, (answer,), used = _split(row, ("completion",))
        if self.judging(row, ("label",)):
            text = answer_text(answer, "completion", marked=False)
            ratings = (self.rating(row["label"], "label"),)
            return self.record(row, where, prompt, used, responses=(Response(text),), ratings=ratings)
        text = demonstrated_text(answer, "completion", marked=False)
        return self.record(row, where, prompt, used, responses=(Response(text),))

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if row.get("prompt") is not None and _is_text(row.get("completion")):
            return f"has {', '.join(key for key in ('prompt', 'completion', 'label') if row.get(key) is not None)}"
        answers = [_first_held(row, (key, f"{key}_messages")) for key in SIDES]
        if all(map(_is_text, answers)) and (row.get("prompt") is not None or isinstance(answers[0], list)):
            shown = ("prompt", "chosen", "rejected", "images")
            return f"has {', '.join(key for key in shown if row.get(key) is not None)}"
        return None


def _first_held(row: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _is_text(value: object) -> bool:
    return isinstance(value, str | list)


def _margin(row: dict[str, Any]) -> float | None:
    """By how much the chosen answer is better, where the row says so."""
    value = row.get("margin")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise RowError("margin is no number of 0 or more")
    return float(value)


def _split(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[list[Turn], list[list[Turn]], list[str]]:
    """The prompt's turns, the turns that each of `keys` adds, and the fields that are in these."""
    for key in keys:
        if row.get(key) is None:
            raise RowError(f"has no field {key}", "field-missing")
    answers = [read_turns(row[key], key, "assistant") for key in keys]
    asked, system = row.get("prompt"), row.get("system")
    if (
        asked is None
        and all(isinstance(row[key], str) for key in keys)
        and not any(turns[1:] for turns in answers)
    ):
        prompt, texts = _split_texts(row, {key: row[key].strip() for key in keys})
        return with_system(prompt, system), [[Turn("assistant", (text,))] for text in texts], [*USED]
    prompt = [] if asked is None else read_turns(asked, "prompt")
    # some rows repeat the prompt in front of each answer
    rests = [turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns for turns in answers]
    used = [*USED]
    if isinstance(asked, str) and all(len(turns) > 1 for turns in rests):
        if prompt[-1].text not in {turn.text for turn in answers[0]}:
            used.remove("prompt")
        prompt, rests = [], answers
    shared = _shared(rests)
    prompt, rests = [*prompt, *rests[0][:shared]], [turns[shared:] for turns in rests]
    if all(len(turns) > 1 for turns in rests):
        talks = [[(turn.role, turn.pieces) for turn in (*prompt, *turns[:-1])] for turns in rests]
        check_shared(talks, keys)
    return with_system(prompt, system), rests, used


def _shared(answers: list[list[Turn]]) -> int:
    """How many turns conversations begin with alike, but for the last of each."""
    shared = 0
    while all(shared < len(turns) - 1 and turns[shared] == answers[0][shared] for turns in answers):
        shared += 1
    return shared


def _split_texts(row: dict[str, Any], texts: dict[str, str]) -> tuple[list[Turn], list[str]]:
    """The same of plain texts without a prompt: transcripts of a human and an assistant, or texts that begin alike.

    A beginning is taken for the prompt only where no other text of the row may be it.
    """
    if all(map(is_transcript, texts.values())):
        split = [text.rpartition(ANSWER) for text in texts.values()]
        talks = [speakers(before.strip()) for before, _, _ in split]
        check_shared(talks, list(texts))
        return [Turn(role, (words,)) for role, words in talks[0]], [
            check_text(answer, f"the last answer of {key}")
            for key, (_, _, answer) in zip(texts, split, strict=True)
        ]
    rest = [
        key for key, value in dict.items(row) if key not in USED and isinstance(value, str) and value.strip()
    ]
    if len(texts) == 1 or rest:
        raise RowError("there is no prompt: plain texts need the field prompt", "field-missing")
    words = [text.split(" ") for text in texts.values()]
    shared = 0
    while all(shared < len(each) - 1 for each in words) and len({each[shared] for each in words}) == 1:
        shared += 1
    prompt = " ".join(words[0][:shared])
    if not prompt.strip():
        raise RowError(
            "there is no prompt: neither a field prompt nor a beginning that both answers share",
            "field-missing",
        )
    refuse_templated(prompt, "what both answers begin with")
    return [Turn("user", (prompt.strip(),))], [
        check_text(" ".join(each[shared:]), key) for key, each in zip(texts, words, strict=True)
    ]
