"""Conversations of (role, text) turns: read from messages, and two of them told apart into a prompt and two answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_tools.adapters.base import (
    MARK,
    RowError,
    check_characters,
    check_roles,
    check_text,
    messages_with_images,
)
from data_tools.adapters.structs import structs
from data_tools.schema import ROLES, ImageRef, Message, Part

Turn = tuple[str, str]


def take_dialogue(row: dict[str, Any], key: str) -> list[Turn]:
    """A field of `{role, content}` messages, also in lists of their turns, as (role, text).

    A content is a text, or a list of parts that are texts.

    Raises:
        RowError: the field is none, a role is none of user, assistant, system, a text is blank, or a part is an image.
    """
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    given = row[key]
    if isinstance(given, list) and all(isinstance(item, list) for item in given):
        given = [message for turn in given for message in turn]
    turns = []
    for message in structs(given, key) if given is not None else ():
        role = message.get("role")
        if role not in ROLES:
            code = "not-supported" if role in ("tool", "function") else "field-wrong"
            raise RowError(f"a message of {key} has none of the roles {', '.join(ROLES)}", code)
        turns.append((str(role), check_text(_content(message.get("content"), key), f"a message of {key}")))
    if not turns:
        raise RowError(f"{key} holds no message")
    return turns


def _content(value: object, key: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list | dict):
        raise RowError(f"a message of {key} is no text")
    texts = []
    for part in structs(value, f"content of a message of {key}"):
        if part.get("image") is not None or part.get("type") not in (None, "text"):
            raise RowError(f"a message of {key} carries more than text, which is not read", "not-supported")
        texts.append(check_characters(part.get("text"), f"a text of {key}"))
    return "".join(texts)


def split_dialogues(
    dialogues: Sequence[Sequence[Turn]], names: Sequence[str]
) -> tuple[list[Turn], list[str]]:
    """The turns before the last answers, which all must share, and these answers.

    Raises:
        RowError: one doesn't end with an assistant's turn after a user's; the turns before it differ, or don't
            alternate.
    """
    for turns, name in zip(dialogues, names, strict=True):
        if turns[-1][0] != "assistant":
            raise RowError(f"{name} doesn't end with an assistant's turn")
    prompt, *others = (list(turns[:-1]) for turns in dialogues)
    if any(turns != prompt for turns in others):
        asked = [[turn for turn in turns if turn[0] == "user"] for turns in (prompt, *others)]
        if len(prompt) > 1 and all(turns == asked[0] for turns in asked):
            both = " and ".join(names)
            raise RowError(
                f"{both} differ in an earlier answer, so the last ones are to two prompts", "two-prompts"
            )
        raise RowError(f"{' and '.join(names)} don't share a prompt")
    if not prompt or prompt[-1][0] != "user":
        raise RowError(f"{names[0]} has no user's turn before its answer")
    check_roles([role for role, _ in prompt])
    return prompt, [turns[-1][1] for turns in dialogues]


def text_messages(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The turns as messages; a mark of an image in them is a text like any other."""
    return tuple(Message(role, (Part(text=text),)) for role, text in turns)  # type: ignore[arg-type]  # see ROLES


def shown_messages(turns: Sequence[Turn], images: Sequence[ImageRef]) -> tuple[Message, ...]:
    """The turns as messages with the images at their marks; before the first user's text, where none is marked."""
    placed = list(turns)
    if images and not any(MARK in text for _, text in placed):
        first = next(index for index, (role, _) in enumerate(placed) if role == "user")
        placed[first] = ("user", MARK * len(images) + placed[first][1])
    return messages_with_images(placed, images)
