"""Rows from Arrow files, the form that `datasets` caches and saves data sets in.

Read with pyarrow, since `datasets` would decode the images before our own decoder sees them. The files are mapped into
memory, so everything in a batch is checked before it is used: offsets that lead out of it would crash the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.arrow_values import Unsound, rows_of
from data_tools.rows.json_value import parse
from data_tools.rows.piece import Piece
from data_tools.source import Rejected

STEP = 16  # rows made Python objects at once: each may hold images of megabytes
MOST_ROWS = 2**24  # of one batch: more is damage, and columns of nothing but null would go on for ever
DICT, STATE = "dataset_dict.json", "state.json"  # what tells folders of `save_to_disk` from others
_FILE, _STREAM = b"ARROW1", b"\xff\xff\xff\xff"
_END = _STREAM + bytes(4)
_REST = "the Arrow file is cut short or damaged; nothing after it can be read"


def is_arrow(head: bytes) -> bool:
    """Whether a file that begins so is an Arrow file, of either kind (a file or a stream)."""
    return head.startswith((_FILE, _STREAM))


def arrow_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of an Arrow file up to where it is damaged, then one rejected row for the rest."""
    import pyarrow

    number = piece.first
    try:
        for batch in _batches(piece.path):
            yield from batch_rows(batch, piece.place, number)
            number += batch.num_rows
    # what pyarrow raises on damaged files
    except (pyarrow.ArrowException, OSError, ValueError, EOFError, KeyError) as error:
        yield Rejected(_REST, f"{piece.place}[{number}]", "row-unreadable", str(error))


def count_rows(path: str) -> int:
    """How many rows an Arrow file has; reads the headers of its batches only.

    Raises:
        UserError: it is damaged.
    """
    import pyarrow

    try:
        return sum(batch.num_rows for batch in _batches(path))
    except (pyarrow.ArrowException, OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{path}: {_REST}: {error}") from error


def _batches(path: str) -> Iterator[Any]:
    """The record batches; raises one of pyarrow's errors, or ValueError where the end mark isn't the file's end."""
    import pyarrow

    with pyarrow.memory_map(path) as source:
        if source.read(len(_FILE)) == _FILE:
            source.seek(0)
            reader = pyarrow.ipc.open_file(source)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
            return
        source.seek(0)
        yield from pyarrow.ipc.open_stream(source)
        # pyarrow takes the end of the file, and a batch whose length was damaged to 0, for the end of the stream
        end, size = source.tell(), source.size()
        source.seek(max(size - len(_END), 0))
        if end != size or source.read() != _END:
            raise ValueError(f"ends at byte {end} of {size}, without an end mark there")


def batch_rows(batch: Any, place: str, first: int) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a record batch that isn't trusted; those that are damaged are rejected one by one."""
    import pyarrow

    where = f"{place}[{first}]"
    try:
        batch.validate()
    except (pyarrow.ArrowException, ValueError) as error:
        yield Rejected(
            "a batch of rows is damaged; none of it can be read", where, "row-unreadable", str(error)
        )
        return
    if batch.num_rows > MOST_ROWS:
        yield Rejected("a batch has too many rows to be true", where, "row-unreadable")
        return
    for start in range(0, batch.num_rows, STEP):
        part = batch.slice(start, STEP)
        try:
            rows = rows_of(part)
        except Unsound:
            yield from _single_rows(part, place, first + start)
        else:
            yield from ((f"{place}[{first + start + i}]", row) for i, row in enumerate(rows))


def _single_rows(batch: Any, place: str, first: int) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a batch that aren't all sound."""
    for number in range(batch.num_rows):
        where = f"{place}[{first + number}]"
        try:
            (row,) = rows_of(batch.slice(number, 1))
            yield where, row
        except Unsound as error:
            yield Rejected(str(error), where, "row-unreadable")


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set, or several, as this folder."""
    return (folder / DICT).is_file() or (folder / STATE).is_file()


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a folder that `Dataset.save_to_disk` wrote, in the order of their rows.

    Raises:
        UserError: `state.json` is damaged, or names a file that isn't there.
    """
    state = folder / STATE
    found = _read_json(state).get("_data_files")
    names = [item.get("filename") if isinstance(item, dict) else None for item in found or ()]
    if not isinstance(found, list) or not all(
        isinstance(name, str) and Path(name).name == name for name in names
    ):
        raise UserError(f"{state}: names no files of rows; save the data set again, or name its .arrow files")
    for name in names:
        if not (folder / str(name)).is_file():
            raise UserError(f"{state}: names {name}, which isn't there; copy the whole folder")
    return [folder / str(name) for name in names]


def saved_splits(folder: Path) -> list[str]:
    """The splits of a folder that `DatasetDict.save_to_disk` wrote; raises UserError where it is damaged."""
    path = folder / DICT
    found = _read_json(path).get("splits")
    if not isinstance(found, list) or not all(
        isinstance(name, str) and Path(name).name == name for name in found
    ):
        raise UserError(f"{path}: names no splits; save the data set again, or name the folder of one split")
    for name in found:
        if not (folder / name / STATE).is_file():
            raise UserError(f"{path}: names the split {name}, which isn't there; copy the whole folder")
    return [str(name) for name in found]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object")
    return found
