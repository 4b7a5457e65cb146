"""Rows from Parquet files.

Read with pyarrow, which `datasets` reads them with, since `datasets` itself would decode the images before our own
decoder sees them, and copy the file into its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.arrow import STEP, batch_rows
from data_tools.rows.piece import Piece
from data_tools.source import Rejected

MAGIC = b"PAR1"


def parquet_pieces(path: Path, place: str) -> Iterator[Piece]:
    """A piece for each row group.

    Raises:
        UserError: the file's end, which says where its rows lie, is missing or damaged.
    """
    import pyarrow

    first = 0
    try:
        with _open(path) as file:
            for group in range(file.num_row_groups):
                yield Piece(str(path), "parquet", place, group, group + 1, first)
                first += file.metadata.row_group(group).num_rows
    # what pyarrow raises on damaged files
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: cut short or damaged; its list of rows can't be read ({error})") from error


def parquet_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of the piece's row groups; what lies in one after damage is one rejected row.

    Raises:
        UserError: it isn't a Parquet file any more.
    """
    import pyarrow

    first = piece.first
    try:
        with _open(piece.path) as file:
            for group in range(piece.start, file.num_row_groups if piece.stop is None else piece.stop):
                yield from _group_rows(file, group, piece.place, first)
                first += file.metadata.row_group(group).num_rows
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{piece.path}: not a readable parquet file any more: {error}") from error


def _group_rows(file: Any, group: int, place: str, first: int) -> Iterator[tuple[str, Any] | Rejected]:
    import pyarrow

    number, total = first, file.metadata.row_group(group).num_rows
    why = ""
    try:
        for batch in file.iter_batches(batch_size=STEP, row_groups=[group], use_threads=False):
            yield from batch_rows(batch, place, number)
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(error)
    if why or number != first + total:
        yield Rejected(
            "a group of rows is damaged; nothing after it in the group can be read",
            f"{place}[{number}]",
            "row-unreadable",
            why or f"holds {number - first} rows, not {total}",
        )


def _open(path: str | Path) -> Any:
    """Opened so that pages are read as they are needed, and their checksums compared where they have any."""
    from pyarrow import parquet

    return parquet.ParquetFile(
        path, buffer_size=2**16, pre_buffer=False, page_checksum_verification=True, memory_map=False
    )
