"""Rows from JSON lines and JSON lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.piece import Piece
from data_tools.source import Rejected

PIECE_BYTES = (
    4 * 2**20
)  # of a piece of lines; small, since a line of a hundred bytes may name a large picture


def is_list(path: Path) -> bool:
    """Whether the file holds one JSON list, and not JSON lines."""
    with open(path, "rb") as file:
        return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def line_pieces(path: Path, place: str, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """JSON lines in pieces of about `size` bytes that end at the end of a line."""
    start, first = 0, 1
    with open(path, "rb") as file:
        while block := file.read(size):
            block += file.readline()
            yield Piece(str(path), "lines", place, start, start + len(block), first)
            start += len(block)
            first += block.count(b"\n")


def line_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a piece of JSON lines."""
    with open(piece.path, "rb") as file:
        file.seek(piece.start)
        position = piece.start
        number = piece.first
        while piece.stop is None or position < piece.stop:
            line = file.readline()
            if not line:
                return
            position += len(line)
            yield from parse_lines([line], piece.place, number)
            number += 1


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


def list_rows(data: bytes, path: Path, place: str) -> Iterator[tuple[str, Any]]:
    """The rows of a JSON list.

    Raises:
        UserError: it isn't valid JSON as a whole.
    """
    try:
        rows = parse(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    for number, row in enumerate(rows):
        yield f"{place}[{number}]", row


def parse(data: bytes) -> Any:
    """The JSON value; raises ValueError also for NaN and infinity, which aren't JSON."""
    return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
