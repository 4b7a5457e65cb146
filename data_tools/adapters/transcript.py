"""Transcripts in hh-rlhf's form: turns that begin with `Human:` and `Assistant:`, with a blank line between them."""

from __future__ import annotations

import re

from data_tools.adapters.row_error import RowError

ANSWER = "\n\nAssistant:"
TURN = re.compile(r"(?:\A|\n\n)(Human|Hum|Assistant):")  # a few rows have it cut short


def is_transcript(text: str) -> bool:
    """Whether a text begins with a human's turn and has an answer."""
    return text.lstrip().startswith(("Human:", "Hum:")) and ANSWER in text


def transcript_turns(text: str) -> list[tuple[str, str]] | None:
    """The turns of a transcript that ends where the next answer begins, as (role, text); None for any other text."""
    if not is_transcript(text) or not text.rstrip().endswith(ANSWER):
        return None
    return speakers(text.rstrip().removesuffix(ANSWER).strip())


def speakers(transcript: str) -> list[tuple[str, str]]:
    """The turns, as (role, text), of a transcript that must begin and end with the human's; turns in a row of one
    speaker are joined.
    """
    lead, *pieces = TURN.split(transcript)
    if lead.strip() or not pieces:
        raise RowError("the prompt doesn't begin with a Human turn")
    turns: list[tuple[str, str]] = []
    for speaker, text in zip(pieces[::2], pieces[1::2], strict=True):
        if not text.strip():
            raise RowError("a turn of the prompt is empty", "text-empty")
        role = "assistant" if speaker == "Assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text.strip()}")
        else:
            turns.append((role, text.strip()))
    if turns[0][0] != "user" or turns[-1][0] != "user":
        raise RowError("the prompt doesn't begin and end with a Human turn")
    return turns
