"""Rows from Parquet files.

Read with pyarrow, which `datasets` reads them with, since `datasets` itself would decode the images before our own
decoder sees them, and copy the file into its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.piece import Piece

_MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether the file begins as Parquet files do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def parquet_rows(piece: Piece) -> Iterator[tuple[str, Any]]:
    """The rows as they lie in the file.

    Raises:
        UserError: it is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    number = piece.first
    try:
        for batch in parquet.ParquetFile(piece.path).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                yield f"{piece.place}[{number}]", row
                number += 1
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{piece.path}: not a readable parquet file after row {number}: {error}") from error
