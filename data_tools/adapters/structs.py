"""Lists of objects, which `datasets` hands out as an object of lists."""

from __future__ import annotations

from typing import Any

from data_tools.adapters.row_error import RowError
from data_tools.adapters.watched import Watched

_DEEPEST = 4  # objects of lists in one another


def structs(value: object, what: str, depth: int = _DEEPEST) -> list[dict[str, Any]]:
    """A list of objects, also where it arrives as an object of lists, in which `datasets` hands it out; `what` names
    it.

    Raises:
        RowError: it is neither, or its lists differ in length.
    """
    if isinstance(value, dict) and depth:
        watched = value if isinstance(value, Watched) else None
        columns = {
            key: structs(watched.child(key) if watched is not None else column, f"{what}.{key}", depth - 1)
            if isinstance(column, dict)
            else column
            for key, column in dict.items(value)
        }
        for key, column in columns.items():
            if not isinstance(column, list):
                raise RowError(f"{what} is an object, but its {key} is no list")
            first = next(iter(columns))
            if len(column) != len(columns[first]):
                raise RowError(f"the lists {first} and {key} of {what} differ in length")
        rows = [dict(zip(columns, items, strict=True)) for items in zip(*columns.values(), strict=True)]
        if watched is None:
            return rows
        watched.rows = [Watched(row) for row in rows]
        return [*watched.rows]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RowError(f"{what} is no list of objects")
    return value


def take_structs(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """A field that must hold a list of objects (see `structs`)."""
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    return structs(row[key], key)
