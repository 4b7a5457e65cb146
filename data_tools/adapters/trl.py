"""TRL's rows: `prompt`, `chosen`, `rejected`; `prompt`, `completion`, `label` (KTO); `prompt`, `completion` (SFT). Each
may have `images`.

Texts or lists of messages. The prompt may also be what both answers begin with; as in TRL, it is that wherever the
answers are whole conversations and the prompt is a text.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import check_text
from data_tools.adapters.chat import Turn, answer_text, read_turns
from data_tools.adapters.own_rows import IMAGES, JudgedRows, refuse_tools
from data_tools.adapters.row_error import RowError
from data_tools.adapters.templated import refuse_templated
from data_tools.adapters.transcript import ANSWER, is_transcript, speakers
from data_tools.schema import PreferenceRecord, Response

USED = ("prompt", "chosen", "rejected", "completion", "label", "margin", *IMAGES, "tools")


class TrlConfig(JudgedRows):
    """TRL's preferences, unpaired preferences and prompts with completions."""

    type: Literal["trl"] = "trl"

    marked: ClassVar[bool] = False

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        refuse_tools(row, ("tools",))
        for key in ("chosen", "rejected"):
            if key not in row and f"{key}_messages" in row:
                row[key] = row.pop(f"{key}_messages")
        if "completion" in row:
            prompt, (completion,), used = _split(row, ("completion",))
            judged = (self.rating(row["label"], "label"),) if "label" in row else ()
            return self.record(row, where, prompt, used, responses=(Response(completion),), ratings=judged)
        prompt, (chosen, rejected), used = _split(row, ("chosen", "rejected"))
        return self.record(row, where, prompt, used, **self.compared(chosen, [rejected], _margin(row)))

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if "completion" in row and "prompt" in row and _is_text(row["completion"]):
            return f"has {', '.join(key for key in ('prompt', 'completion', 'label') if key in row)}"
        answers = [row.get(key, row.get(f"{key}_messages")) for key in ("chosen", "rejected")]
        if (
            all(map(_is_text, answers))
            and "video" not in row  # which is MM-RLHF's
            and ("prompt" in row or isinstance(answers[0], list))
        ):
            return f"has {', '.join(key for key in ('prompt', 'chosen', 'rejected', 'images') if key in row)}"
        return None


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


def _split(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[list[Turn], list[str], list[str]]:
    """The prompt's turns, the text of the one answer that each of `keys` adds, and the fields that are in these."""
    for key in keys:
        if row.get(key) is None:
            raise RowError(f"has no field {key}", "field-missing")
    answers = [read_turns(row[key], key, "assistant") for key in keys]
    asked = row.get("prompt")
    if (
        asked is None
        and all(isinstance(row[key], str) for key in keys)
        and not any(turns[1:] for turns in answers)
    ):
        prompt, texts = _split_texts(row, {key: row[key].strip() for key in keys})
        return prompt, texts, [*USED]
    prompt = [] if asked is None else read_turns(asked, "prompt")
    # some rows repeat the prompt in front of each answer
    rests = [turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns for turns in answers]
    used = [*USED]
    if isinstance(asked, str) and all(len(turns) > 1 for turns in rests):
        if prompt[-1].text not in {turn.text for turn in answers[0]}:
            used.remove("prompt")
        prompt, rests = [], answers
    if not prompt:
        prompt, rests = _shared(rests)
    return (
        prompt,
        [answer_text(turns, key, marked=False) for key, turns in zip(keys, rests, strict=True)],
        used,
    )


def _shared(answers: list[list[Turn]]) -> tuple[list[Turn], list[list[Turn]]]:
    """The turns that conversations begin with, but for the last of each; and what follows them."""
    shared = 0
    while (
        all(shared < len(turns) - 1 for turns in answers) and len({turns[shared] for turns in answers}) == 1
    ):
        shared += 1
    if len(answers) == 1:
        shared = len(answers[0]) - 1
    elif all(len(turns) > shared + 1 for turns in answers):
        raise RowError("chosen and rejected don't share a prompt: they differ before their last turn")
    return answers[0][:shared], [turns[shared:] for turns in answers]


def _split_texts(row: dict[str, Any], texts: dict[str, str]) -> tuple[list[Turn], list[str]]:
    """The same of plain texts without a prompt: transcripts of a human and an assistant, or texts that begin alike.

    A beginning is taken for the prompt only where no other text of the row may be it.
    """
    if all(map(is_transcript, texts.values())):
        split = [text.rpartition(ANSWER) for text in texts.values()]
        if len({before.strip() for before, _, _ in split}) > 1:
            raise RowError("chosen and rejected don't share a prompt: they differ before their last answer")
        turns = [Turn(role, (words,)) for role, words in speakers(split[0][0].strip())]
        return turns, [
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
