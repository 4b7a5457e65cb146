"""Messages with their images, and the pair of answers to them."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.adapters.row_error import RowError
from data_tools.schema import Comparison, ImageRef, Message, Part, Response

MARK = "<image>"  # where a text shows an image


def question(text: str, images: Sequence[ImageRef]) -> tuple[Message, ...]:
    """A user's turn: the images where the text marks them, or before it where it marks none."""
    if MARK in text:
        return messages_with_images([("user", text)], images, MARK)
    return (Message("user", (*(Part(image=i) for i in range(len(images))), Part(text=text))),)


def messages_with_images(
    turns: Sequence[tuple[str, str]], images: Sequence[ImageRef], mark: str = MARK
) -> tuple[Message, ...]:
    """Messages from (role, text) turns, with an image in place of each mark; there must be a mark for each
    image.
    """
    marks = sum(text.count(mark) for _, text in turns)
    if marks != len(images):
        raise RowError(f"the number of {mark} marks differs from the number of images")
    index, messages = 0, []
    for role, text in turns:
        parts: list[Part] = []
        for number, piece in enumerate(text.split(mark)):
            if number:
                parts.append(Part(image=index))
                index += 1
            if piece.strip():
                parts.append(Part(text=piece.strip("\n")))
        messages.append(Message(role, tuple(parts)))  # type: ignore[arg-type]  # the record checks the role
    return tuple(messages)


def check_roles(roles: Sequence[str]) -> None:
    """Raises RowError unless a prompt's turns go user, assistant, ... user, after at most one of the system.

    Chat templates refuse other orders, some of them only when training has begun.
    """
    spoken = roles[1:] if roles and roles[0] == "system" else roles
    if list(spoken) != ["user" if number % 2 == 0 else "assistant" for number in range(len(spoken))]:
        raise RowError("the prompt's turns don't alternate between user and assistant (system only first)")


def pair(
    chosen: str,
    rejected: str,
    objective: str,
    judge: str = "human",
    models: tuple[str | None, str | None] = (None, None),
) -> tuple[tuple[Response, ...], tuple[Comparison, ...]]:
    """The responses and the comparison of a chosen and a rejected answer, of the two `models`; they must differ."""
    if chosen == rejected:
        raise RowError("chosen and rejected are the same answer", "same-answers")
    responses = tuple(Response(text, model) for text, model in zip((chosen, rejected), models, strict=True))
    return responses, (Comparison(objective, better=0, worse=1, judge=judge),)
