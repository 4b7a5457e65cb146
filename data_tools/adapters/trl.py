"""TRL's preference rows: `prompt`, `chosen`, `rejected`, `images`; and its KTO rows: `prompt`, `completion`,
`label`.

Texts or lists of messages; without `prompt` the messages that chosen and rejected begin with are the prompt.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, Literal

from pydantic import Field

from data_tools.adapters.base import (
    MARK,
    FileSource,
    RowError,
    check_characters,
    check_roles,
    check_text,
    messages_with_images,
    pair,
    take_image,
    take_list,
)
from data_tools.adapters.provenance import others
from data_tools.adapters.structs import structs
from data_tools.schema import (
    ROLES,
    Comparison,
    ImageRef,
    Message,
    Part,
    PreferenceRecord,
    Rating,
    Response,
)

USED = ("prompt", "chosen", "rejected", "completion", "label", "margin", "image", "images", "tools")
Turn = tuple[str, tuple[str | None, ...]]  # a role, and texts or, as None, places of images


class TrlConfig(FileSource):
    """TRL preference or unpaired-preference data."""

    type: Literal["trl"] = "trl"
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        if row.get("tools"):
            raise RowError("has tools, which are not supported", "not-supported")
        responses: tuple[Response, ...]
        comparisons: tuple[Comparison, ...] = ()
        ratings: tuple[Rating, ...] = ()
        if "completion" in row:
            if "label" not in row:
                raise RowError("has no field label", "field-missing")
            if not isinstance(row["label"], bool):
                raise RowError("label is neither true nor false")
            prompt, (completion,) = _split(row, ("completion",))
            responses = (Response(completion),)
            value = float(row["label"])
            ratings = (Rating(self.objective, 0, value, 0.0, 1.0, self.judge, "binary"),)
        else:
            prompt, (chosen, rejected) = _split(row, ("chosen", "rejected"))
            responses, (comparison,) = pair(chosen, rejected, self.objective, self.judge)
            comparisons = (dataclasses.replace(comparison, margin=_margin(row)),)
        given = take_list(row, "images") or ([row["image"]] if row.get("image") is not None else [])
        images = tuple(take_image(image, self.image_root) for image in given)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=_messages(prompt, images),
            responses=responses,
            images=images,
            comparisons=comparisons,
            ratings=ratings,
            provenance=others(row, USED),
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if "completion" in row and isinstance(row.get("label"), bool):
            return "has completion and a label that is true or false"
        answers = [row.get(key) for key in ("chosen", "rejected")]
        # an image given by its path beside plain texts is MM-RLHF's way
        foreign = "video" in row or (isinstance(row.get("image"), str) and isinstance(row.get("prompt"), str))
        if (
            not foreign
            and all(isinstance(answer, str | list) for answer in answers)
            and ("prompt" in row or isinstance(answers[0], list))
        ):
            return f"has {', '.join(key for key in ('prompt', 'chosen', 'rejected', 'images') if key in row)}"
        return None


def _margin(row: dict[str, Any]) -> float | None:
    """By how much the chosen answer is better, where the row says so."""
    value = row.get("margin")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise RowError("margin is no number of 0 or more")
    return float(value)


def _split(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[list[Turn], list[str]]:
    """The prompt's turns, and the text of the one answer that each of `keys` adds to them."""
    for key in keys:
        if row.get(key) is None:
            raise RowError(f"has no field {key}", "field-missing")
    answers = [_turns(row[key], key, "assistant") for key in keys]
    if row.get("prompt") is not None:
        prompt = _turns(row["prompt"], "prompt", "user")
        # some rows repeat the prompt in front of each answer
        answers = [turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns for turns in answers]
    else:
        shared = 0
        while (
            all(shared < len(turns) - 1 for turns in answers)
            and len({turns[shared] for turns in answers}) == 1
        ):
            shared += 1
        if len(answers) == 1:
            shared = len(answers[0]) - 1
        prompt, answers = answers[0][:shared], [turns[shared:] for turns in answers]
    if not prompt or prompt[-1][0] != "user":
        raise RowError("there is no prompt that ends with a user's turn")
    check_roles([role for role, _ in prompt])
    for key, turns in zip(keys, answers, strict=True):
        if len(turns) != 1 or turns[0][0] != "assistant":
            raise RowError(f"{key} is not one assistant's turn after the prompt")
        if None in turns[0][1]:
            raise RowError(f"{key} holds an image")
    return prompt, ["".join(text for text in turns[0][1] if text) for turns in answers]


def _turns(value: object, what: str, role: str) -> list[Turn]:
    """A text as one turn of `role`, or a list of messages as turns."""
    if isinstance(value, str):
        return [(role, (check_text(value, what),))]
    if isinstance(value, dict):
        value = structs(value, what)
    if not isinstance(value, list) or not value:
        raise RowError(f"{what} is neither a text nor a list of messages")
    turns: list[Turn] = []
    for message in value:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise RowError(
                f"a message of {what} has none of the roles {', '.join(ROLES)}", _code_of_role(message)
            )
        content = message.get("content")
        if isinstance(content, dict):
            content = structs(content, f"content of a message of {what}")
        if not isinstance(content, list):
            content = [{"type": "text", "text": content}]
        parts = _trimmed([_part(part, what) for part in content])
        if not parts:
            raise RowError(f"a message of {what} is empty", "text-empty")
        turns.append((message["role"], parts))
    return turns


def _trimmed(parts: list[str | None]) -> tuple[str | None, ...]:
    """The parts of a message without the blanks at its ends; those between its parts belong to it."""
    kept = list(parts)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while kept and (text := kept[end]) is not None:
            kept[end] = strip(text)
            if kept[end]:
                break
            del kept[end]
    return tuple(part for part in kept if part != "")


def _code_of_role(message: object) -> str:
    tool = isinstance(message, dict) and message.get("role") == "tool"
    return "not-supported" if tool else "field-wrong"


def _part(part: object, what: str) -> str | None:
    if isinstance(part, dict) and part.get("type") == "image":
        if any(part.get(key) is not None for key in ("image", "url", "path")):
            raise RowError("a message carries its own image; images belong in the field images")
        return None
    if isinstance(part, dict) and part.get("type") == "text":
        return check_characters(part.get("text"), f"a text of {what}")
    raise RowError(f"a part of a message of {what} is neither text nor image")


def _messages(turns: list[Turn], images: tuple[ImageRef, ...]) -> tuple[Message, ...]:
    places = sum(part is None for _, parts in turns for part in parts)
    texts = [(role, "".join(part for part in parts if part)) for role, parts in turns]
    if images and not places and any(MARK in text for _, text in texts):
        return messages_with_images(texts, images)
    if images and not places:
        # as TRL does: images that no part names stand before the first user's text
        first = next(index for index, turn in enumerate(turns) if turn[0] == "user")
        turns = [*turns]
        turns[first] = ("user", (*([None] * len(images)), *turns[first][1]))
    elif places != len(images):
        raise RowError("the number of image parts differs from the number of images")
    index, messages = 0, []
    for role, parts in turns:
        made = []
        for part in parts:
            made.append(Part(image=index) if part is None else Part(text=part))
            index += part is None
        messages.append(Message(role, tuple(made)))  # type: ignore[arg-type]  # checked against ROLES in _turns
    return tuple(messages)
