"""One JSON value out of bytes that aren't trusted."""

from __future__ import annotations

import json
from typing import Any

MOST_VALUES = 2**21  # in one row: more is no row, and takes gigabytes as objects
BOM = b"\xef\xbb\xbf"
NO_UTF8 = "is no UTF-8 text (but Latin-1 or GBK, perhaps); save the file as UTF-8"
_SMALL = 4 * 2**20  # characters that can't hold too many


class Unfit(ValueError):
    """What isn't read, for a reason that the message says and that is the same for the same fault."""


class TooMany(Unfit):
    """A value holds more values than any row has."""


class DoubledKey(Unfit):
    """An object has two fields of one name, of which readers take one or the other."""


def parse(data: bytes) -> Any:
    """The JSON value; raises ValueError also for NaN and infinity, which aren't JSON, for too many values, and for two
    fields of one name.
    """
    check_density(data)
    try:
        text = data.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError:
        raise Unfit(NO_UTF8) from None
    return DECODER.decode(text)


def why_unread(error: Exception) -> str:
    """What to tell of the error that `parse` raised."""
    return str(error) if isinstance(error, Unfit) else "not valid JSON"


def check_density(text: bytes | str) -> None:
    """Raises TooMany where the text, of one row or of less, begins more values than any row has."""
    if len(text) <= _SMALL:
        return
    counts = map(text.count, ",[{") if isinstance(text, str) else map(text.count, (b",", b"[", b"{"))
    if sum(counts) > MOST_VALUES:
        raise TooMany(f"a row of more than {MOST_VALUES:,} values")


def _no_constant(name: str) -> Any:
    raise Unfit(f"holds {name}, which isn't JSON; write null in its place")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DoubledKey(f"the field {twice[:60]!r} stands twice in one object")
    return row


# one for all: json.loads would make one for each row
DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)
LAX_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # of two fields of one name it takes the last
