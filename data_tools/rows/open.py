"""From a path to the rows that lie there: which form a file has, and its pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.parquet import is_parquet, parquet_rows
from data_tools.rows.piece import Piece
from data_tools.rows.text import is_list, line_pieces, line_rows, list_rows
from data_tools.source import Rejected


def pieces(source: Path) -> tuple[Piece, ...]:
    """The pieces of a source's files, in the order of their rows.

    Raises:
        UserError: there is nothing that can be read.
    """
    try:
        if is_parquet(source):
            return (Piece(str(source), "parquet", source.name),)
        if is_list(source):
            return (Piece(str(source), "list", source.name),)
        return tuple(line_pieces(source, source.name))
    except OSError as error:
        raise UserError(f"{source}: can't be read ({error.strerror or error})") from error


def all_rows(source: Path) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of all pieces, one after the other; raises as `pieces` and `read_rows` do."""
    for piece in pieces(source):
        yield from read_rows(piece)


def read_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """Each row of a piece with its place (such as `file:line`), or why it can't be read.

    Raises:
        UserError: the file can't be read, or not as what it is.
    """
    path = Path(piece.path)
    try:
        if piece.form == "list":
            yield from list_rows(path.read_bytes(), path, piece.place)
        elif piece.form == "parquet":
            yield from parquet_rows(piece)
        else:
            yield from line_rows(piece)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from error
