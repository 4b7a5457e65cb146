"""Rows from JSON lines, JSON lists, and JSON objects of lists such as `{"train": [...]}`; each also gzipped.

A damaged line is one rejected row; a damaged list is refused as a whole, since where its next row begins is then a
guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data_tools.errors import UserError
from data_tools.rows.piece import Piece
from data_tools.rows.stream import Damaged, is_gzip, open_bytes
from data_tools.source import Rejected

PIECE_BYTES = 4 * 2**20  # of a piece of lines; small, since a short line may name a large picture
MOST_LINE = 256 * 2**20  # bytes of a line; more is no row, but a mistake or an attack
MOST_LIST = 4 * 2**30  # bytes of a JSON list, which is held in memory
_BLOCK = 2**20
_BOM = b"\xef\xbb\xbf"
# how a file begins that holds one object whose fields are lists of rows, and none of the rows that data sets have
_LISTS = re.compile(
    rb'\{\s*"(data|rows|train|training|validation|valid|val|dev|test|testing)"\s*:\s*\[\s*[{\]]'
)


def is_list(head: bytes) -> bool:
    """Whether a file that begins so holds one JSON list, and not JSON lines."""
    return _begin(head).startswith(b"[")


def is_lists(head: bytes) -> bool:
    """Whether a file that begins so holds one JSON object of lists."""
    return _LISTS.match(_begin(head)) is not None


def is_object(head: bytes) -> bool:
    """Whether a file that begins so holds one JSON object over several lines, and not JSON lines."""
    return re.match(rb'\{\s*\n\s*"', _begin(head)) is not None


def _begin(head: bytes) -> bytes:
    return head.removeprefix(_BOM).lstrip()


def line_pieces(path: Path, place: str, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """JSON lines in pieces of about `size` bytes that end at the end of a line; a gzipped file is one piece."""
    if is_gzip(path):
        yield Piece(str(path), "lines", place, first=1)
        return
    start, first = 0, 1
    with open(path, "rb") as file:
        while block := file.read(size):
            lines, end = block.count(b"\n"), start + len(block)
            del block  # a long line is passed over in small steps
            while rest := file.readline(_BLOCK):
                end += len(rest)
                if rest.endswith(b"\n"):
                    lines += 1
                    break
            yield Piece(str(path), "lines", place, start, end, first)
            start, first = end, first + lines


def line_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a piece of JSON lines; what lies after damage to a gzip file is one rejected row."""
    position, number = piece.start, piece.first
    with open_bytes(piece.path) as file:
        if position:
            file.seek(position)
        try:
            while piece.stop is None or position < piece.stop:
                line = file.readline(MOST_LINE + 1)
                if not line:
                    return
                position += len(line)
                if len(line) > MOST_LINE and not line.endswith(b"\n"):
                    del line
                    position += _pass_line(file)
                    yield Rejected("the line is too long", f"{piece.place}:{number}", "row-unreadable")
                else:
                    yield from parse_lines([line], piece.place, number)
                number += 1
        except Damaged as error:
            where = f"{piece.place}:{number}"
            yield Rejected(f"{error}; nothing after it can be read", where, "row-unreadable")


def _pass_line(file: BinaryIO) -> int:
    """Passes over the rest of a line; how many bytes it has."""
    size = 0
    while rest := file.readline(_BLOCK):
        size += len(rest)
        if rest.endswith(b"\n"):
            break
    return size


def parse_lines(lines: Iterable[bytes], place: str, first: int = 1) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of JSON lines, blank ones left out; `first` is the number of the first line."""
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        where = f"{place}:{number}"
        try:
            yield where, parse(line)
        except (ValueError, RecursionError):
            yield Rejected("not valid JSON", where, "row-unreadable", line.decode("utf-8", "replace"))


def list_rows(piece: Piece) -> Iterator[tuple[str, Any]]:
    """The rows of a JSON list, or of the list named by the piece's `key` in a JSON object.

    Raises:
        UserError: it isn't valid JSON as a whole.
    """
    place = piece.place if piece.key is None else f"{piece.place}:{piece.key}"
    rows = _document(Path(piece.path))
    for number, row in enumerate(rows if piece.key is None else rows[piece.key]):
        yield f"{place}[{number}]", row


def list_keys(path: Path) -> list[str]:
    """The fields of a JSON object of lists, in the file's order.

    Raises:
        UserError: it isn't valid JSON, or a field is no list.
    """
    found = _document(path)
    if not isinstance(found, dict) or not all(isinstance(value, list) for value in found.values()):
        raise UserError(
            f"{path}: one JSON object, but not each of its fields is a list of rows; write the rows as one JSON list, "
            "or one row a line"
        )
    return list(found)


def _document(path: Path) -> Any:
    data = bytearray()
    with open_bytes(path) as file:
        try:
            while block := file.read(_BLOCK):
                data += block
                if len(data) > MOST_LIST:
                    raise UserError(
                        f"{path}: a JSON list of more than {MOST_LIST:,} bytes, which isn't read; write it as JSON "
                        "lines, one row a line"
                    )
        except Damaged as error:
            raise UserError(f"{path}: {error}, and a JSON list is only read whole") from error
    try:
        return parse(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error


def parse(data: bytes | bytearray) -> Any:
    """The JSON value; raises ValueError also for NaN and infinity, which aren't JSON."""
    return _DECODER.decode(data.removeprefix(_BOM).decode("utf-8"))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    parse_constant=_no_constant
)  # one for all: json.loads would make one for each row
