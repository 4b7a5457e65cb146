"""Which public format a source has, by its first rows: `--from auto`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.adapters import ADAPTERS
from data_tools.adapters.base import FileSource
from data_tools.errors import UserError
from data_tools.manifest import MANIFEST
from data_tools.rows.open import all_rows
from data_tools.source import Rejected

_COLUMNS = (
    "Rows of any other fields: --from columns --set prompt=FIELD --set chosen=FIELD --set rejected=FIELD "
    "--set image=FIELD, or an adapter of your own (docs/data.md)"
)
_TELLING = 3  # fields: fewer are in many formats
FIRST = 50  # rows that are looked at


@dataclass(frozen=True)
class Recognised:
    """A format by the name (`type`) of its adapter, and why the rows are taken to be of it."""

    name: str
    why: str


@dataclass(frozen=True)
class _Candidate:
    """A format that some rows look like: how many, how specific it is, and why."""

    name: str
    rows: int
    marks: int
    why: str


def recognise(source: Path, subset: str | None = None, split: str | None = None) -> Recognised:
    """The format that most of a source's first rows look like; of several, the one that more fields tell of.

    Raises:
        UserError: the source can't be read, less than half of the rows are of any format, or two fit as well.
    """
    if (source / MANIFEST).is_file():
        return Recognised("shards", f"a data directory: it has a {MANIFEST}")
    first = list(islice(all_rows(source, subset, split), FIRST))
    rows = [item[1] for item in first if not isinstance(item, Rejected)]
    if not rows:
        why = next((f": {item.where} {item.reason}" for item in first if isinstance(item, Rejected)), "")
        raise UserError(
            f"{source}: its format can't be told, since none of its first {FIRST} rows can be read{why}"
        )
    found = sorted(_candidates(rows), key=lambda item: (item.rows, item.marks), reverse=True)
    if not found or 2 * found[0].rows < len(rows):
        raise UserError(f"{source}: its rows are of no known format. {_help(rows, found)}")
    best = found[0]
    if len(found) > 1 and (found[1].rows, found[1].marks) == (best.rows, best.marks):
        raise UserError(f"{source}: its rows may be of several formats. {_help(rows, found)}")
    return Recognised(best.name, f"{best.rows} of the first {len(rows)} rows: {best.why}")


def _candidates(rows: Sequence[Any]) -> list[_Candidate]:
    found = []
    for adapter in ADAPTERS:
        reasons = Counter(
            why for row in rows if isinstance(row, dict) and (why := adapter.recognise(row)) is not None
        )
        if reasons:
            why = reasons.most_common(1)[0][0]
            found.append(_Candidate(_name(adapter), reasons.total(), len(adapter.marks), why))
    return found


def _name(adapter: type[FileSource]) -> str:
    return str(adapter.model_fields["type"].default)


def _help(rows: Sequence[Any], found: Sequence[_Candidate]) -> str:
    """What the rows have, what they may be, and what to do."""
    fields = Counter(key for row in rows if isinstance(row, dict) for key in row)
    names = ", ".join(str(key)[:60] for key, _ in fields.most_common(30)) or "none (they are no JSON objects)"
    fits = ", ".join(f"{item.name} ({item.rows} of {len(rows)} rows)" for item in found) or "none"
    known = ", ".join(sorted(_name(adapter) for adapter in ADAPTERS))
    what = f"Their fields: {names}. Formats that fit: {fits}{_maybe(rows, found)}."
    return f"{what} Name one with --from NAME, out of: {known}. {_COLUMNS}"


def _maybe(rows: Sequence[Any], found: Sequence[_Candidate]) -> str:
    """What rows that surely are of no format may be: of the formats whose fields they all have, the most specific."""
    fields = set.intersection(*(set(row) if isinstance(row, dict) else set() for row in rows))
    near = [
        adapter for adapter in ADAPTERS if len(adapter.marks) >= _TELLING and fields.issuperset(adapter.marks)
    ]
    most = max((len(adapter.marks) for adapter in near), default=0)
    names = " or ".join(_name(adapter) for adapter in near if len(adapter.marks) == most)
    return f" (they may be {names}, or another set with these fields)" if names and not found else ""
