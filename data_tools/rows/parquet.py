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
PIECE_BYTES, PIECE_ROWS = 64 * 2**20, 2000  # of neighbouring row groups that are one piece
_SMALL = 64 * 2**20  # bytes of a row group that are held in memory
_BUFFER = 2**16


def parquet_pieces(path: Path, place: str) -> Iterator[Piece]:
    """Neighbouring row groups in pieces of up to `PIECE_BYTES` (unpacked) and `PIECE_ROWS`, or one larger group: some
    programs write a few rows a group, and each piece makes shards of its own.

    Raises:
        UserError: the file's end, which says where its rows lie, is missing or damaged.
    """
    import pyarrow

    start = first = rows = size = 0
    try:
        with _open(path) as file:
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                full = rows + group.num_rows > PIECE_ROWS or size + group.total_byte_size > PIECE_BYTES
                if full and number > start:
                    yield Piece(str(path), "parquet", place, start, number, first)
                    start, first, rows, size = number, first + rows, 0, 0
                rows, size = rows + group.num_rows, size + group.total_byte_size
            if file.num_row_groups:
                yield Piece(str(path), "parquet", place, start, file.num_row_groups, first)
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
    """Opened so that a large row group is read page by page, and checksums are compared where there are any.

    A small one is read column by column: a damaged page can then not claim more bytes than the column has.
    """
    from pyarrow import parquet

    metadata = parquet.read_metadata(path)
    sizes = (metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    buffer_size = _BUFFER if max(sizes, default=0) > _SMALL else 0
    return parquet.ParquetFile(
        path, metadata=metadata, buffer_size=buffer_size, pre_buffer=False, page_checksum_verification=True
    )
