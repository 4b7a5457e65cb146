"""Rows of an Arrow batch that isn't trusted as Python objects: how many values they would become is told before, since
some types take no bytes in the file, or show the same ones again and again.
"""

from __future__ import annotations

from typing import Any

MOST_VALUES = 2**21  # of the rows that are made at once: more is no row, and takes gigabytes as objects
MOST_BYTES = 2**30  # of their texts and pictures
_LARGE = "the row has too many values or bytes to be true"


class Unsound(Exception):
    """Rows can't be made Python objects; the text is the reason."""


def rows_of(batch: Any) -> list[dict[str, Any]]:
    """A few rows as objects; of a single one, a date that Python has no way to tell (after the year 9999, in a time
    zone that isn't known here) is the number that stands in the file.

    Raises:
        Unsound: they are damaged, or too large.
    """
    import pyarrow

    try:
        batch.validate(full=True)
        _check_size(batch)
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise Unsound("the row is damaged, or its text isn't UTF-8") from error
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    except (pyarrow.ArrowException, ValueError, OverflowError, LookupError) as error:
        if batch.num_rows > 1:  # which of them it is shows one by one
            raise Unsound("a date that Python can't tell, or another value") from error
        columns = {name: _values(name, batch.column(name)) for name in batch.schema.names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(name: str, column: Any) -> list[Any]:
    import pyarrow

    try:
        values: list[Any] = column.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError, LookupError):
        try:
            values = column.cast(_undated(column.type)).to_pylist()
        except (pyarrow.ArrowException, ValueError, OverflowError, LookupError) as error:
            raise Unsound(f"its column {name} can't be read as {column.type}") from error
    return values


def _undated(kind: Any) -> Any:
    """The type with whole numbers in the place of dates and times."""
    import pyarrow
    from pyarrow import types

    if types.is_temporal(kind):
        return pyarrow.int32() if kind.bit_width == 32 else pyarrow.int64()
    if types.is_struct(kind):
        fields = (kind.field(number) for number in range(kind.num_fields))
        return pyarrow.struct([field.with_type(_undated(field.type)) for field in fields])
    if types.is_list(kind):
        return pyarrow.list_(_undated(kind.value_type))
    return pyarrow.large_list(_undated(kind.value_type)) if types.is_large_list(kind) else kind


def _check_size(batch: Any) -> None:
    """Raises Unsound where the rows hold too many values or bytes; each level is counted before it is looked into."""
    values, size = 0, 0
    waiting = list(batch.columns)
    while waiting:
        column = waiting.pop()
        values += len(column)
        inner, lengths = _inside(column)
        size += lengths
        if values + sum(map(len, inner)) > MOST_VALUES or size > MOST_BYTES:
            raise Unsound(_LARGE)
        waiting += inner


def _inside(column: Any) -> tuple[list[Any], int]:
    """The arrays that hold an array's values, and how many bytes its own texts and pictures have, each counted as often
    as it is shown: views, dictionaries and runs show the same ones more than once.
    """
    from pyarrow import compute, types

    kind = column.type
    if types.is_struct(kind):
        return column.flatten(), 0
    if types.is_fixed_size_list(kind):
        _check_count(kind.list_size * len(column))
        return [column.flatten()], 0
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        _check_count(compute.sum(compute.list_value_length(column)).as_py() or 0)
        return [column.flatten()], 0
    if types.is_map(kind):
        begin, end = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return [column.keys.slice(begin, end - begin), column.items.slice(begin, end - begin)], 0
    if types.is_list(kind) or types.is_large_list(kind):
        return [column.flatten()], 0
    if types.is_dictionary(kind):
        lengths = _lengths(column.dictionary)
        return [], 0 if lengths is None else compute.sum(lengths.take(column.indices)).as_py() or 0
    if types.is_run_end_encoded(kind):
        lengths = _lengths(column.values)
        return [], 0 if lengths is None else len(column) * (compute.max(lengths).as_py() or 0)
    lengths = _lengths(column)
    return [], 0 if lengths is None else compute.sum(lengths).as_py() or 0


def _check_count(values: int) -> None:
    if values > MOST_VALUES:
        raise Unsound(_LARGE)


def _lengths(column: Any) -> Any:
    """The bytes of each text or picture of an array; None where it holds none.

    Raises:
        Unsound: it is nested, as no dictionary that anybody writes.
    """
    import numpy as np
    import pyarrow
    from pyarrow import compute, types

    kind = column.type
    if types.is_nested(kind) or types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        raise Unsound(f"a column of {kind} within others isn't read")
    if types.is_string_view(kind) or types.is_binary_view(kind):
        # a view is 16 bytes, the length first
        begin = 4 * column.offset
        ints = np.frombuffer(column.buffers()[1], np.int32)
        return pyarrow.array(ints[begin : begin + 4 * len(column) : 4])
    if types.is_fixed_size_binary(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        return compute.binary_length(column)
    return compute.binary_length(column) if types.is_string(kind) or types.is_large_string(kind) else None
