"""What the adapters share: reading local rows, and taking fields out of rows that may hold anything.

Left out on purpose: downloading. A file is read from disk; a row's image is a local file or bytes, never a
URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from data_tools.images import (
    ImageError,
    check_image,
    decode_image,
    encode_png,
    local_path,
    read_bytes,
)
from data_tools.rows.open import all_rows, pieces, read_rows
from data_tools.rows.piece import Piece
from data_tools.schema import (
    Comparison,
    ImageRef,
    Message,
    Part,
    PreferenceRecord,
    Response,
    SchemaError,
)
from data_tools.source import CODES, Read, Rejected, Source

__all__ = ["FileSource", "Rejected", "RowError", "guarded", "pair", "take_image", "take_text"]


class RowError(Exception):
    """A row can't be made a record; the text is the reason, the same for every row with this fault, and `code` one of
    `data_tools.source.CODES`.
    """

    def __init__(self, reason: str, code: str = "field-wrong", image: bytes | None = None) -> None:
        super().__init__(reason)
        assert code in CODES, code
        self.code, self.image = code, image


class FileSource(Source):
    """Base of the adapters: rows of files, each made into a record by `convert`.

    An adapter declares the fields that tell its format from others (`marks`), and says how a row becomes a record. One
    that must see all rows at once sets `whole` and does in `finish` what needs them all.
    """

    path: Path = Field(description="The file: JSON lines, or one JSON list.")
    images: Path | None = Field(
        default=None, description="The folder that image paths are in; null is the file's own."
    )
    limit: int | None = Field(default=None, ge=1, description="Read at most so many rows; null reads all.")

    marks: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[bool] = False

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord | tuple[PreferenceRecord, ...]:
        """A row as its record or records.

        Raises:
            RowError: it can't be one; SchemaError counts as that too.
        """
        raise NotImplementedError(f"{type(self).__name__} has no convert method")

    def finish(self, reads: Iterator[Read]) -> Iterator[Read]:
        """What is made of all that was read, of an adapter that is `whole`."""
        return reads

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        """Why the row looks like one of this format; None where it doesn't."""
        if cls.marks and all(mark in row for mark in cls.marks):
            return f"has {', '.join(cls.marks)}"
        return None

    @property
    def image_root(self) -> Path:
        """The folder that image paths are in."""
        return self.images or self.path.parent

    def adapt(self, row: object, where: str = "row") -> Read:
        """The record or records of a row, or the reason why not; never raises for what a row holds."""
        found = guarded(lambda fields: self.convert(fields, where), row, where)
        return (found,) if isinstance(found, PreferenceRecord) else found

    def files(self) -> Sequence[Path]:
        """The files of rows; images aren't among them."""
        return tuple(dict.fromkeys(Path(piece.path) for piece in pieces(self.path)))

    def pieces(self) -> Sequence[Piece]:
        return () if self.whole or self.limit is not None else pieces(self.path)

    def read(self, seed: int, piece: Piece | None = None) -> Iterator[Read]:
        reads = (
            item if isinstance(item, Rejected) else self.adapt(item[1], item[0])
            for item in (read_rows(piece) if piece else all_rows(self.path))
        )
        yield from self.finish(islice(reads, self.limit))

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """All records and rejected rows; nothing here is random."""
        for item in self.read(seed):
            yield from (item,) if isinstance(item, Rejected) else item


RecordT = TypeVar("RecordT")


def guarded(convert: Callable[[dict[str, Any]], RecordT], row: object, where: str) -> RecordT | Rejected:
    """What `convert` makes of the row, or the reason why it couldn't."""
    if not isinstance(row, dict):
        return Rejected("the row is no JSON object", where, "row-unreadable", row)
    try:
        return convert(row)
    except RowError as error:
        return Rejected(str(error), where, error.code, row, error.image)
    except SchemaError as error:
        # without the record's id, so that equal faults are counted as one
        return Rejected(str(error).partition(": ")[2] or str(error), where, "schema", row)


def take_text(row: dict[str, Any], key: str, what: str | None = None) -> str:
    """A field that must hold text that isn't blank; stripped."""
    if key not in row:
        raise RowError(f"has no field {what or key}", "field-missing")
    return check_text(row[key], what or key)


def check_text(value: object, what: str) -> str:
    """`value` as stripped text; raises RowError where it is anything else, blank, or can't be stored as
    UTF-8.
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is no text")
    text = value.strip()
    if not text:
        raise RowError(f"{what} is empty", "text-empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"{what} holds half a character (a lone surrogate)", "text-damaged") from None
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
    """An image given as a path below `root`, `{"path": ...}` or `{"bytes": ...}`, checked to be whole.

    A file stays on disk and is referred to; GIF and BMP bytes become PNG.
    """
    if isinstance(value, dict):
        data = value.get("bytes")
        if isinstance(data, bytes):
            return _checked(data)
        value = value.get("path")
    if not isinstance(value, str) or not value:
        raise RowError("an image is neither a path nor bytes", "image-missing")
    try:
        ref = ImageRef(path=str(local_path(check_text(value, "an image path"), root)))
        data = read_bytes(ref)
    except ImageError as error:
        # without the path, to be countable
        raise RowError(f"an image {str(error).rpartition(': ')[2]}", error.code) from error
    held = _checked(data)
    return replace(held, data=None, path=ref.path) if held.data == data else held


def _checked(data: bytes) -> ImageRef:
    try:
        found = check_image(data)
        return ImageRef.of_bytes(data if found.extension else encode_png(decode_image(data)), found.notes)
    except ImageError as error:
        raise RowError(str(error), error.code, data) from error


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
        raise RowError("chosen and rejected are the same answer", "same-answers")
    return (Response(chosen), Response(rejected)), (Comparison(objective, better=0, worse=1),)
