"""Conversations in the ShareGPT form: turns that are `{from, value}` objects."""

from __future__ import annotations

from data_tools.adapters.base import RowError, take_text

_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def take_turn(turn: object, what: str = "a turn") -> tuple[str, str]:
    """A `{from, value}` object as (role, text); `what` names it.

    Raises:
        RowError: it is none, its text is blank, or it is from none of human, gpt, system.
    """
    if not isinstance(turn, dict):
        raise RowError(f"{what} is no {{from, value}} object")
    role = _ROLES.get(take_text(turn, "from", f"from of {what}"))
    if role is None:
        raise RowError(
            f"{what} is from none of human, gpt, system (tools are not supported)", "not-supported"
        )
    return role, take_text(turn, "value", f"value of {what}")
