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
from data_tools.adapters.media import named_medium
from data_tools.errors import UserError
from data_tools.manifest import MANIFEST
from data_tools.rows.open import all_rows
from data_tools.source import Rejected

_COLUMNS = (
    "Rows of any other fields: --from columns --set prompt=FIELD --set chosen=FIELD --set rejected=FIELD "
    "--set image=FIELD, or an adapter of your own (docs/data.md)"
)
# what fields of people's own rows may be, by their names
_PARTS = {
    "prompt": ("question", "prompt", "query", "problem", "instruction", "input", "text"),
    "chosen": ("chosen", "preferred", "better", "good", "accepted", "winner"),
    "rejected": ("rejected", "dispreferred", "worse", "bad", "loser"),
    "reference": ("answers", "ground_truth", "solution", "gt_answer"),
    "response": ("answer", "response", "output", "completion", "caption", "target"),
}
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
    """The format that a source's first rows look like: of those that half of the rows or more fit, the one that most
    fields tell of, since the rows of a particular set often fit a general form, too; then the one that most rows fit.

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
    found = sorted(_candidates(rows), key=lambda item: (item.marks, item.rows), reverse=True)
    fitting = [item for item in found if 2 * item.rows >= len(rows)]
    if not fitting:
        raise UserError(f"{source}: its rows are of no known format. {_help(rows, found)}")
    best = fitting[0]
    if len(fitting) > 1 and (fitting[1].rows, fitting[1].marks) == (best.rows, best.marks):
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
    fields = _fields(rows)
    names = ", ".join(str(key)[:60] for key, _ in fields.most_common(30)) or "none (they are no JSON objects)"
    fits = ", ".join(f"{item.name} ({item.rows} of {len(rows)} rows)" for item in found) or "none"
    known = ", ".join(sorted(_name(adapter) for adapter in ADAPTERS))
    what = f"Their fields: {names}. Formats that fit: {fits}{_maybe(rows, found)}."
    return f"{what}{_suggestion(rows)} Name one with --from NAME, out of: {known}. {_COLUMNS}"


def _suggestion(rows: Sequence[Any]) -> str:
    """How to name the fields that most rows have to `columns`, where their names tell what they hold."""
    fields = _fields(rows)
    common = [key for key, count in fields.items() if isinstance(key, str) and 2 * count >= len(rows)]
    parts = {
        part: next((key for name in names for key in common if key.lower() == name), None)
        for part, names in _PARTS.items()
    }
    shown = next((f" --set image={key}" for key in common if named_medium(key) == "picture"), "")
    prompt = f"--from columns --set prompt={parts['prompt']}"
    if parts["prompt"] and parts["chosen"] and parts["rejected"]:
        return f" If they are pairs: {prompt} --set chosen={parts['chosen']} --set rejected={parts['rejected']}{shown}."
    if parts["prompt"] and parts["response"] and not (parts["chosen"] or parts["rejected"]):
        answer = parts["response"]
        return (
            f" If {answer} is an answer to imitate: {prompt} --set response={answer}{shown}; if it is the right "
            f"answer, to judge others by: {prompt} --set reference={answer}{shown}."
        )
    if parts["prompt"] and parts["reference"] and not (parts["chosen"] or parts["rejected"]):
        right = parts["reference"]
        return (
            f" If {right} is the right answer, to judge others by: {prompt} --set reference={right}{shown}."
        )
    return ""


def _fields(rows: Sequence[Any]) -> Counter[Any]:
    """How many rows have each field, null apart."""
    return Counter(
        key for row in rows if isinstance(row, dict) for key, value in row.items() if value is not None
    )


def _maybe(rows: Sequence[Any], found: Sequence[_Candidate]) -> str:
    """What rows that surely are of no format may be: of the formats whose fields they all have, the most specific."""
    fields = {key for key, count in _fields(rows).items() if count == len(rows)}
    near = [
        adapter for adapter in ADAPTERS if len(adapter.marks) >= _TELLING and fields.issuperset(adapter.marks)
    ]
    most = max((len(adapter.marks) for adapter in near), default=0)
    names = " or ".join(_name(adapter) for adapter in near if len(adapter.marks) == most)
    return f" (they may be {names}, or another set with these fields)" if names and not found else ""
