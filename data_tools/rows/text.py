"""Rows from JSON lines, JSON lists, and JSON objects of lists such as `{"train": [...]}`; each also gzipped.

A damaged line is one rejected row; a damaged list is refused as a whole (see `data_tools.rows.json_list`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from data_tools.rows.json_list import Doubled, list_values
from data_tools.rows.json_value import BOM, parse, why_unread
from data_tools.rows.piece import Piece
from data_tools.rows.stream import Damaged, is_gzip, open_bytes
from data_tools.source import Rejected

PIECE_BYTES = 4 * 2**20  # of a piece of lines; small, since a short line may name a large picture
MOST_LINE = 256 * 2**20  # bytes of a line; more is no row, but a mistake or an attack
_BLOCK = 2**20
_FEW_BLANK = 64  # blank lines that are read one by one; a few kilobytes of gzip can unpack to millions
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
    return head.removeprefix(BOM).lstrip()


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
    blank, patience = 0, _FEW_BLANK
    with open_bytes(piece.path) as file:
        if position:
            file.seek(position)
        try:
            while piece.stop is None or position < piece.stop:
                line = file.readline(MOST_LINE + 1)
                if not line:
                    return
                position += len(line)
                if line.isspace():
                    number, blank = number + 1, blank + 1
                    if blank == patience:
                        passed = _pass_blank_lines(file)
                        position, number, blank = position + len(passed), number + passed.count(b"\n"), 0
                        # looking ahead copies what is in memory, so it isn't done often where it saves little
                        patience = _FEW_BLANK if len(passed) > _BLOCK // 8 else 2 * patience
                    continue
                blank = 0
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


def _pass_blank_lines(file: BinaryIO) -> bytes:
    """Passes over the blank lines that the file has in memory; what they are."""
    ahead = file.peek()  # type: ignore[attr-defined]  # both of `open_bytes` are buffered readers
    blank = ahead[: len(ahead) - len(ahead.lstrip())]
    return file.read(blank.rfind(b"\n") + 1)


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
        except (ValueError, RecursionError) as error:
            yield Rejected(why_unread(error), where, "row-unreadable", line.decode("utf-8", "replace"))


def list_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a JSON list, or of the list named by the piece's `key` in a JSON object.

    Raises:
        UserError: it isn't valid JSON as a whole; maybe only after some rows were given.
    """
    place = piece.place if piece.key is None else f"{piece.place}:{piece.key}"
    for number, row in enumerate(list_values(Path(piece.path), piece.key)):
        where = f"{place}[{number}]"
        yield (
            Rejected(row.why, where, "row-unreadable", row.value)
            if isinstance(row, Doubled)
            else (where, row)
        )
