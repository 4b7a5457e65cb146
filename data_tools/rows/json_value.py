"""One JSON value out of bytes that aren't trusted."""

from __future__ import annotations

import json
from typing import Any

MOST_VALUES = 2**21  # in one row: more is no row, and takes gigabytes as objects
BOM = b"\xef\xbb\xbf"
_SMALL = 4 * 2**20  # characters that can't hold too many


class TooMany(ValueError):
    """A value holds more values than any row has."""


def parse(data: bytes) -> Any:
    """The JSON value; raises ValueError also for NaN and infinity, which aren't JSON, and for too many values."""
    check_density(data)
    return DECODER.decode(data.removeprefix(BOM).decode("utf-8"))


def check_density(text: bytes | str) -> None:
    """Raises TooMany where the text, of one row or of less, begins more values than any row has."""
    if len(text) <= _SMALL:
        return
    counts = map(text.count, ",[{") if isinstance(text, str) else map(text.count, (b",", b"[", b"{"))
    if sum(counts) > MOST_VALUES:
        raise TooMany(f"a row of more than {MOST_VALUES:,} values")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_constant)  # one for all: json.loads would make one for each row
