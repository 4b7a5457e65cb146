"""What the adapters share: reading local rows, and taking fields out of rows that may hold anything.

Left out on purpose: downloading. A file is read from disk; a row's image is a local file or bytes, never a
URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from data_tools.errors import UserError
from data_tools.images import (
    ImageError,
    decode_image,
    encode_png,
    extension,
    local_path,
    read_bytes,
)
from data_tools.schema import (
    Comparison,
    ImageRef,
    Message,
    Part,
    PreferenceRecord,
    Response,
    SchemaError,
)
from data_tools.source import Rejected, Source

__all__ = ["FileSource", "Rejected", "RowError", "guarded", "pair", "read_rows", "take_image", "take_text"]


class RowError(Exception):
    """A row can't be made a record; the text is the reason, the same for every row with this fault."""


class FileSource(Source):
    """Base of the adapters that read a local file."""

    path: Path = Field(description="The file: JSON lines, or one JSON list.")
    limit: int | None = Field(default=None, ge=1, description="Read at most so many rows; null reads all.")

    def files(self) -> Sequence[Path]:
        """The file of rows; images aren't among them."""
        return (self.path,)


def read_rows(path: Path, limit: int | None = None) -> Iterator[tuple[str, Any] | Rejected]:
    """Each row with its place (`file:line`), from JSON lines or a JSON list, whatever the file's name ends
    with.

    Raises:
        UserError: no such file, or a list that isn't valid JSON as a whole.
    """
    try:
        with open(path, "rb") as file:
            first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
            file.seek(0)
            rows = _list_rows(path, file.read()) if first.startswith(b"[") else _line_rows(path, file)
            yield from islice(rows, limit)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from error


def _line_rows(path: Path, lines: Iterator[bytes] | Any) -> Iterator[tuple[str, Any] | Rejected]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            yield where, _parse(line)
        except (ValueError, RecursionError):
            yield Rejected("not valid JSON", where)


def _list_rows(path: Path, data: bytes) -> Iterator[tuple[str, Any] | Rejected]:
    try:
        rows = _parse(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    for number, row in enumerate(rows):
        yield f"{path.name}[{number}]", row


def _parse(data: bytes) -> Any:
    return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def guarded(
    convert: Callable[[dict[str, Any]], PreferenceRecord], row: object, where: str
) -> PreferenceRecord | Rejected:
    """What `convert` makes of the row, or the reason why it couldn't."""
    if not isinstance(row, dict):
        return Rejected("the row is no JSON object", where)
    try:
        return convert(row)
    except RowError as error:
        return Rejected(str(error), where)
    except SchemaError as error:
        # without the record's id, so that equal faults are counted as one
        return Rejected(str(error).partition(": ")[2] or str(error), where)


def take_text(row: dict[str, Any], key: str, what: str | None = None) -> str:
    """A field that must hold text that isn't blank; stripped."""
    if key not in row:
        raise RowError(f"has no field {what or key}")
    return check_text(row[key], what or key)


def check_text(value: object, what: str) -> str:
    """`value` as stripped text; raises RowError where it is anything else, blank, or can't be stored as
    UTF-8.
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is no text")
    text = value.strip()
    if not text:
        raise RowError(f"{what} is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"{what} holds half a character (a lone surrogate)") from None
    return text


def take_list(row: dict[str, Any], key: str) -> list[Any]:
    """A field that must hold a list; an absent or null one is empty."""
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowError(f"{key} is no list")
    return value


def take_image(value: object, root: Path) -> ImageRef:
    """An image given as a path below `root`, `{"path": ...}` or `{"bytes": ...}`, decoded once to see that
    it's whole.

    A file stays on disk and is referred to; GIF and BMP bytes become PNG.
    """
    if isinstance(value, dict):
        data = value.get("bytes")
        if isinstance(data, bytes):
            return _checked(data)
        value = value.get("path")
    if not isinstance(value, str) or not value:
        raise RowError("an image is neither a path nor bytes")
    try:
        ref = ImageRef(path=str(local_path(check_text(value, "an image path"), root)))
        data = read_bytes(ref)
        held = _checked(data)
    except ImageError as error:
        raise RowError(
            f"an image {str(error).rpartition(': ')[2]}"
        ) from error  # without the path, to be countable
    return ImageRef(path=ref.path, sha256=held.sha256) if held.data == data else held


def _checked(data: bytes) -> ImageRef:
    try:
        image = decode_image(data)
    except ImageError as error:
        raise RowError(str(error)) from error
    return ImageRef.of_bytes(data if extension(data) else encode_png(image))


def messages_with_images(
    turns: Sequence[tuple[str, str]], images: Sequence[ImageRef], mark: str = "<image>"
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


def pair(chosen: str, rejected: str, objective: str) -> tuple[tuple[Response, ...], tuple[Comparison, ...]]:
    """The responses and the comparison of a chosen and a rejected answer; they must differ."""
    if chosen == rejected:
        raise RowError("chosen and rejected are the same answer")
    return (Response(chosen), Response(rejected)), (Comparison(objective, better=0, worse=1),)
