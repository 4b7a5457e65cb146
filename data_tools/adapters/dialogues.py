"""Conversations of (role, text) turns: read from messages, and two of them told apart into a prompt and two answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_tools.adapters import chat
from data_tools.adapters.base import MARK, RowError, check_roles, messages_with_images
from data_tools.adapters.structs import structs
from data_tools.schema import ImageRef, Message, Part

Turn = tuple[str, str]


def take_dialogue(row: dict[str, Any], key: str) -> list[Turn]:
    """A field of `{role, content}` messages, also in lists of their turns, as (role, text).

    A content is a text, or a list of parts that are texts; an empty turn of the system is left out.

    Raises:
        RowError: the field is none, a role is none of user, assistant, system, a text is blank, a part is an image, or
            a tool is called.
    """
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    given = row[key]
    if isinstance(given, list) and all(isinstance(item, list) for item in given):
        given = [message for turn in given for message in turn]
    turns = [text_turn(message, key) for message in (structs(given, key) if given is not None else ())]
    spoken = [turn for turn in turns if turn is not None]
    if not spoken:
        raise RowError(f"{key} holds no message")
    return spoken


def text_turn(message: object, what: str) -> Turn | None:
    """A message that must be text only as (role, text); None for an empty one of the system."""
    turn = chat.read_message(message, what)
    if turn is None:
        return None
    if turn.places:
        raise RowError(f"a message of {what} carries more than text, which is not read", "not-supported")
    return turn.role, turn.text


def with_system_text(turns: list[Turn], system: object) -> list[Turn]:
    """The turns after one of the system with what the row's field `system` says (see `chat.with_system`)."""
    if system in (None, ""):
        return turns
    said = chat.with_system([chat.Turn(role, (text,)) for role, text in turns], system)
    return [(turn.role, turn.text) for turn in said]


def split_dialogues(
    dialogues: Sequence[Sequence[Turn]], names: Sequence[str]
) -> tuple[list[Turn], list[str]]:
    """The turns before the last answers, which all must share, and these answers.

    Raises:
        RowError: one doesn't end with an assistant's turn after a user's; the turns before it differ (see
            `check_shared`), or don't alternate.
    """
    for turns, name in zip(dialogues, names, strict=True):
        if turns[-1][0] != "assistant":
            raise RowError(f"{name} doesn't end with an assistant's turn")
    check_shared([turns[:-1] for turns in dialogues], names)
    prompt = list(dialogues[0][:-1])
    if not prompt or prompt[-1][0] != "user":
        raise RowError(f"{names[0]} has no user's turn before its answer")
    check_roles([role for role, _ in prompt])
    return prompt, [turns[-1][1] for turns in dialogues]


def check_shared(prompts: Sequence[Sequence[tuple[str, Any]]], names: Sequence[str]) -> None:
    """Raises RowError where the turns (role, content) before the last answers differ; `names` are the fields.

    Two conversations that begin with the same question and go on differently are sound, and yet no record; two that
    begin with different ones don't belong together.
    """
    first, *others = (list(prompt) for prompt in prompts)
    if all(prompt == first for prompt in others):
        return
    both = " and ".join(names)
    asked = [next((turn for turn in prompt if turn[0] == "user"), None) for prompt in (first, *others)]
    if asked[0] is not None and all(turn == asked[0] for turn in asked):
        raise RowError(
            f"{both} differ in an earlier turn, so the last answers are to two prompts", "two-prompts"
        )
    raise RowError(f"{both} don't share a prompt")


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
