"""Where in a conversation its pictures stand: the turns become messages with numbered places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_tools.adapters.base import MARK, messages_with_images
from data_tools.adapters.chat import Shown, Turn
from data_tools.adapters.row_error import RowError
from data_tools.adapters.templated import refuse_picture_tokens
from data_tools.base64_images import bytes_of, path_of
from data_tools.image_limits import ImageError
from data_tools.schema import Message, Part


def lay_out(
    turns: Sequence[Turn], given: Sequence[Any], marked: bool = True
) -> tuple[tuple[Message, ...], list[Any]]:
    """The turns as messages, and the pictures in the order in which these show them, as the row gives them: those of
    parts, those that are `given` beside the conversation at its places or `<image>` marks, or else before the first
    user's text. What is given may also be every picture of the conversation, with those that its parts hold themselves.

    Raises:
        RowError: there are more or fewer places than pictures. Without any picture, a mark is one place too many where
            texts are `marked` by their format, and else a word.
    """
    texts = [(turn.role, turn.text) for turn in turns]
    places = sum(turn.places for turn in turns)
    marks = sum(text.count(MARK) for _, text in texts)
    if given or places:
        for _, text in texts:
            refuse_picture_tokens(text)
    given = _without_repeated(turns, given)
    if not places and marks and (given or marked):
        # the images themselves aren't looked at here, only how many there are
        return messages_with_images(texts, given), list(given)
    ordered = list(turns)
    if given and not places:
        first = next((index for index, turn in enumerate(ordered) if turn.role == "user"), None)
        if first is None:
            raise RowError("there is no user's turn for the image to stand in")
        ordered[first] = Turn("user", (*([None] * len(given)), *ordered[first].pieces))
    elif sum(piece is None for turn in turns for piece in turn.pieces) != len(given):
        if given and any(isinstance(piece, Shown) for turn in turns for piece in turn.pieces):
            raise RowError("the pictures in the messages aren't those beside them; leave one of the two out")
        raise RowError("the number of image parts differs from the number of images")
    rest, messages = list(given), []
    shown: list[Any] = []
    for turn in ordered:
        parts = []
        for piece in turn.pieces:
            if isinstance(piece, str):
                parts.append(Part(text=piece))
                continue
            parts.append(Part(image=len(shown)))
            shown.append(rest.pop(0) if piece is None else piece.value)
        messages.append(Message(turn.role, tuple(parts)))  # type: ignore[arg-type]  # one of _ROLES
    return tuple(messages), shown


def _without_repeated(turns: Sequence[Turn], given: Sequence[Any]) -> Sequence[Any]:
    """The given pictures without those that parts hold too, where they are all that the parts show, in their order."""
    shown = [piece for turn in turns for piece in turn.pieces if not isinstance(piece, str)]
    if len(shown) != len(given) or not any(shown):
        return given
    pairs = list(zip(shown, given, strict=True))
    if all(piece is None or _is_same(piece.value, value) for piece, value in pairs):
        return [value for piece, value in pairs if piece is None]
    return given


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values of a row are one picture: by their bytes where both hold them, else by their paths."""
    try:
        held = bytes_of(one), bytes_of(other)
    except ImageError:
        return False
    if None not in held:
        return held[0] == held[1]
    names = path_of(one), path_of(other)
    return names[0] is not None and names[0] == names[1]
