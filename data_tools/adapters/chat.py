"""Conversations as people's own rows hold them, as turns.

A conversation is a text, a list of messages (`{role, content}` or `{from, value}`), an object of lists, in which the
library `datasets` hands such a list out, or a JSON text of messages. A message's content is a text or a list of parts;
a picture is a part, with or without the picture itself, or an `<image>` in a text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_tools.adapters.base import MARK, check_characters, check_text
from data_tools.adapters.media import holds_something, named_medium
from data_tools.adapters.row_error import RowError
from data_tools.adapters.structs import structs
from data_tools.adapters.templated import refuse_templated
from data_tools.adapters.transcript import transcript_turns

_ROLES = {
    **{name: name for name in ("system", "user", "assistant")},
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
}
_TOOLS = ("tool", "function", "function_call", "tool_call", "tool_response", "observation", "ipython")
_REFUSED = ("tool_calls", "function_call", "tool_call_id", "reasoning_content", "thinking")
_SAID = frozenset(("role", "content", "from", "value"))  # the fields that most messages have, and no other
_LEARNT = ("weight", "loss", "loss_scale", "train")  # a message with a 0 or false in one is not learnt from
_NO = ("0", "0.0", "false", "no")
_OTHER_PARTS = ("video", "video_url", "audio", "audio_url", "input_audio")


@dataclass(frozen=True)
class Shown:
    """A picture that a message carries itself, as the row gives it (see `base.take_image`)."""

    value: Any


@dataclass(frozen=True)
class Turn:
    """Who speaks, and texts, pictures or, as None, places of pictures; `learnt` is false for an answer that its row
    says not to learn from.
    """

    role: str
    pieces: tuple[str | Shown | None, ...]
    learnt: bool = field(default=True, compare=False)

    @property
    def text(self) -> str:
        """Its texts, joined."""
        return "".join(piece for piece in self.pieces if isinstance(piece, str))

    @property
    def places(self) -> int:
        """How many pictures it shows by parts."""
        return sum(not isinstance(piece, str) for piece in self.pieces)


def read_turns(value: object, what: str, role: str = "user") -> list[Turn]:
    """A conversation as turns; a text is one of `role`. `what` names it.

    Raises:
        RowError: it is no conversation, a turn is empty or of a tool, or a text is under a chat template.
    """
    if isinstance(value, str):
        listed = _json_messages(value)
        if listed is None:
            return _text_turns(value, what, role)
        value = listed
    if isinstance(value, dict):
        value = [value] if isinstance(_first(value, ("role", "from")), str) else structs(value, what)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # some copies wrap it once more
    if not isinstance(value, list) or not value:
        raise RowError(f"{what} is neither a text nor a list of messages")
    turns = [turn for message in value if (turn := read_message(message, what)) is not None]
    for turn in turns:
        refuse_templated(turn.text, f"a message of {what}")
    if not turns:
        raise RowError(f"every message of {what} is empty", "text-empty")
    return turns


def _text_turns(value: str, what: str, role: str) -> list[Turn]:
    text = check_text(value, what)
    if role == "user" and (turns := transcript_turns(text)) is not None:
        return [Turn(speaker, (words,)) for speaker, words in turns]
    refuse_templated(text, what)
    return [Turn(role, (text,))]


def _json_messages(text: str) -> list[Any] | None:
    """The messages that a text is the JSON of; None for any other text."""
    if not text.lstrip().startswith(("[{", "[ {", "[\n")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    form = (("role", "content"), ("from", "value"))
    fits = isinstance(value, list) and all(
        isinstance(item, dict) and any(one in item and other in item for one, other in form) for item in value
    )
    return value if fits and value else None


def read_message(message: object, what: str) -> Turn | None:
    """A message as a turn; None for one of the system that says nothing. `what` names the conversation.

    Raises:
        RowError: it is no message, is empty, is of a tool or calls one, or holds a video or a sound.
    """
    if not isinstance(message, dict):
        raise RowError(f"a message of {what} is no object with role and content")
    given = _first(message, ("role", "from"))
    role = _ROLES.get(given) if isinstance(given, str) else None
    if given in _TOOLS:
        raise RowError(f"a message of {what} is a tool's, which is not supported", "not-supported")
    if role is None:
        raise RowError(
            f"a message of {what} has none of the roles system, user, assistant (from: system, human, gpt)"
        )
    if not _SAID.issuperset(message):
        for key in _REFUSED:
            if message.get(key):
                raise RowError(f"a message of {what} holds {key}, which is not supported", "not-supported")
    pieces = _pieces(_first(message, ("content", "value")), role, what)
    if _SAID.issuperset(message):
        learnt = True
    else:
        learnt = not any(_is_no(message.get(key)) for key in _LEARNT)
        for key, value in message.items():
            if key not in _SAID and named_medium(key) and holds_something(value):
                pieces = _placed(pieces, _carried(key, value, what))
    if not pieces and role == "system":
        return None
    if not pieces:
        raise RowError(f"a message of {what} is empty", "text-empty")
    return Turn(role, pieces, learnt)


def _pieces(content: Any, role: str, what: str) -> tuple[str | Shown | None, ...]:
    if isinstance(content, str):
        text = check_characters(content, f"a text of {what}").strip()
        return (text,) if text else ()
    if content is None and role == "system":
        return ()
    if isinstance(content, dict):
        content = structs(content, f"content of a message of {what}")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return _trimmed([_piece(part, what) for part in parts])


def _first(message: dict[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first of the keys that isn't null: in tables of several forms the others are."""
    for key in keys:
        if (value := message.get(key)) is not None:
            return value
    return None


def _is_no(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _NO
    return isinstance(value, bool | int | float) and value == 0


def _placed(
    pieces: tuple[str | Shown | None, ...], carried: tuple[Shown, ...]
) -> tuple[str | Shown | None, ...]:
    """The pieces with the pictures that their message carries: at its places, at its marks, or else before them."""
    if sum(piece is None for piece in pieces) == len(carried):
        rest = iter(carried)
        return tuple(next(rest) if piece is None else piece for piece in pieces)
    if sum(piece.count(MARK) for piece in pieces if isinstance(piece, str)) == len(carried):
        split: list[str | Shown | None] = []
        rest = iter(carried)
        for piece in pieces:
            first, *later = piece.split(MARK) if isinstance(piece, str) else [piece]
            split.append(first)
            for text in later:
                split += [next(rest), text]
        return tuple(piece for piece in split if not isinstance(piece, str) or piece.strip())
    return (*carried, *pieces)


def _carried(key: str, value: Any, what: str) -> tuple[Shown, ...]:
    """The pictures that a message has beside its content."""
    if key not in ("image", "images"):
        raise RowError(
            f"a message of {what} has a {named_medium(key)} in {key}, which isn't read; make it a part of its content",
            "media-unread" if named_medium(key) == "picture" else "other-modality",
        )
    return tuple(Shown(item) for item in (value if isinstance(value, list) else [value]))


def _trimmed(pieces: list[str | Shown | None]) -> tuple[str | Shown | None, ...]:
    """The pieces of a message without the blanks at its ends; those between its pieces belong to it."""
    kept = list(pieces)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while kept and isinstance(text := kept[end], str):
            kept[end] = strip(text)
            if kept[end]:
                break
            del kept[end]
    return tuple(piece for piece in kept if piece != "")


def _piece(part: object, what: str) -> str | Shown | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and (
        kind in ("text", "input_text", "output_text") or (kind is None and "text" in part)
    ):
        if part.get("image") is not None:
            raise RowError(f"a part of a message of {what} is a text and yet holds an image", "not-supported")
        return check_characters(part.get("text"), f"a text of {what}")
    if isinstance(part, dict) and kind in ("image", "image_url", "input_image"):
        values = (part.get(key) for key in ("image", "image_url", "url", "path", "base64"))
        value = next((value for value in values if value is not None), None)
        if kind != "image" and isinstance(value, dict) and "url" in value:
            value = value["url"]
        return None if value is None else Shown(value)
    if kind in _OTHER_PARTS:
        raise RowError(
            f"a message of {what} has a part of type {kind}, which no record can hold", "other-modality"
        )
    raise RowError(f"a part of a message of {what} is neither text nor image")


def with_system(turns: list[Turn], system: object) -> list[Turn]:
    """The turns after one of the system with what the row's field `system` says, where it says anything.

    Raises:
        RowError: it is no text, or the turns begin with another one of the system.
    """
    if system is None or system == "":
        return turns
    text = check_characters(system, "system").strip()
    if not text:
        return turns
    if turns and turns[0].role == "system":
        if turns[0].text != text:
            raise RowError("the field system differs from the conversation's own turn of the system")
        return turns
    return [Turn("system", (text,)), *turns]


def answer_text(turns: Sequence[Turn], what: str, marked: bool = True) -> str:
    """The text of the one assistant's turn that `turns` must be; `what` names it."""
    if len(turns) != 1 or turns[0].role != "assistant":
        raise RowError(f"{what} is not one assistant's turn after the prompt")
    (turn,) = turns
    if turn.places:
        raise RowError(f"{what} holds an image")
    if marked and MARK in turn.text:
        raise RowError(f"{what} holds an {MARK} mark")
    return turn.text
