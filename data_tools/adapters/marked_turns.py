"""Prompts in HelpSteer's form: turns that begin with a line of `<extra_id_1>` and the speaker."""

from __future__ import annotations

import re

from data_tools.adapters.base import RowError, check_roles
from data_tools.schema import Message, Part

_TURN = re.compile(r"<extra_id_1>(User|Assistant)\n")
_ROLES = {"User": "user", "Assistant": "assistant"}


def marked_turns(prompt: str) -> tuple[Message, ...]:
    """The turns of a prompt: after the user's first, each begins with a line `<extra_id_1>` and its speaker."""
    first, *rest = _TURN.split(prompt)
    turns = [("user", first), *((_ROLES[who], text) for who, text in zip(rest[::2], rest[1::2], strict=True))]
    if not first.strip() and rest:  # the first turn has such a line too
        turns = turns[1:]
    if turns[-1][0] != "user":
        raise RowError("the prompt doesn't end with a user's turn")
    check_roles([role for role, _ in turns])
    if not all(text.strip() for _, text in turns):
        raise RowError("a turn of the prompt is empty", "text-empty")
    return tuple(Message(role, (Part(text=text.strip()),)) for role, text in turns)  # type: ignore[arg-type]
