"""Fields of a row that are no label and yet worth keeping: they go into the record's provenance."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from data_tools.adapters.watched import unwatched

_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def told(row: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Those of the fields `keys` that hold something, by name."""
    return {plain(key): plain(row[key]) for key in keys if row.get(key) not in (None, "", [], {})}


def others(row: dict[str, Any], used: Collection[str]) -> dict[str, Any]:
    """`{"fields": {...}}` with the texts, numbers and truth values of a row that the adapter has not `used`; empty
    where there are none.

    They stand apart, since some names in a provenance (`group`, `flip`, `split`) mean something to the build.
    """
    # `dict.items`: that they are kept here doesn't mean that the adapter reads them (see `data_tools.adapters.media`)
    rest = {key: value for key, value in dict.items(row) if key not in used}
    fields = told(rest, [key for key, value in rest.items() if isinstance(value, str | int | float | bool)])
    return {"fields": fields} if fields else {}


def plain(value: object) -> Any:
    """The value, where JSON and UTF-8 can hold it; else how Python writes it, in ASCII, without any bytes in it."""
    try:
        value = unwatched(value)
        try:
            if isinstance(value, str):
                value.encode("utf-8")
            else:
                _JSON.encode(value).encode("utf-8")
        except (TypeError, ValueError):  # bytes, dates; NaN, half a character
            found = _without_bytes(value)
            return ascii(found) if found is value or not isinstance(found, str) else found
    except RecursionError:
        return "nested too deep to be kept"
    return value


def _without_bytes(value: object) -> object:
    """The value with a few words in the place of bytes, which are pictures more often than not."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, dict):
        return {key: _without_bytes(item) for key, item in value.items()}
    return [_without_bytes(item) for item in value] if isinstance(value, list | tuple) else value
