"""What the audits share: the data they look at, the numbers they find, and the result that the report shows.

An audit is a class: it sees every record once, as plain JSON without its images, and then says what it found. All
audits run in one pass over the data; what one keeps must not grow with the number of records beyond a few bytes each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from data_tools.errors import UserError
from data_tools.intervals import Estimate
from data_tools.manifest import read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = str | int | float | Estimate | None
Progress = Callable[[str, int, int | None], None]  # what is done, how far, of how much


@dataclass(frozen=True)
class Options:
    """How to audit. `max_pairs` bounds the sample of comparisons of each split, source and modality; `against` are
    benchmark files with which the data must share nothing."""

    seed: int = 0
    max_pairs: int = 20_000
    against: tuple[Path, ...] = ()


@dataclass(frozen=True, order=True)
class Scope:
    """The part of the data that a number is about; an empty name stands for all of them. `label` is what a pair comes
    from: a comparison, a ranking, or two ratings."""

    split: str = ""
    modality: str = ""
    objective: str = ""
    source: str = ""
    label: str = ""

    def __str__(self) -> str:
        return ".".join(part for part in dataclasses.astuple(self) if part) or "all"


def scope_label(scope: Scope) -> str:
    """A scope for tables and plots: "train · nlvr · factuality"; a source tells the kind of prompt itself."""
    names = (scope.split, scope.source or scope.modality, scope.objective, scope.label)
    return " · ".join(name for name in names if name) or "all"


@dataclass(frozen=True)
class Metric:
    """What a number means, in a sentence; whether it is a share of 1; and what it would be where nothing is amiss."""

    about: str
    share: bool = True
    base: float | None = None


@dataclass(frozen=True)
class Finding:
    """One number that was found: of which metric, of which part of the data."""

    metric: str
    value: float | Estimate
    scope: Scope = Scope()

    @property
    def number(self) -> float:
        """The value without its interval."""
        return self.value.mean if isinstance(self.value, Estimate) else float(self.value)


@dataclass(frozen=True)
class Table:
    """Rows for the page and the terminal; a `float` is shown as it is, an `Estimate` as a share with its interval."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A drawing: `draw` puts it on matplotlib axes of `width` x `height` inches."""

    title: str
    draw: Callable[[Axes], None]
    width: float = 7.0
    height: float = 3.0


@dataclass(frozen=True)
class Example:
    """Records to look at side by side, each named by its split and its index there, and why."""

    why: str
    records: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class AuditResult:
    """What one audit found. `says` puts it into a sentence or two; `findings` are the numbers that `--fail-on` can
    refer to; `notes` say what the numbers don't cover, such as a sample."""

    name: str
    title: str
    says: str
    findings: tuple[Finding, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_json(row: dict[str, Any]) -> AuditResult:
        """The numbers and words of a result that `to_json` gave."""
        findings = [
            Finding(found["metric"], _value(found), Scope(**found["scope"])) for found in row["findings"]
        ]
        return AuditResult(row["name"], row["title"], row["says"], tuple(findings), notes=tuple(row["notes"]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the plots are left out."""
        return {
            "name": self.name,
            "title": self.title,
            "says": self.says,
            "findings": [
                {
                    "metric": finding.metric,
                    "scope": {key: name for key, name in vars(finding.scope).items() if name},
                    **_plain(finding.value),
                }
                for finding in self.findings
            ],
            "tables": [
                {
                    "title": table.title,
                    "columns": list(table.columns),
                    "rows": [
                        [_plain(cell) if isinstance(cell, Estimate) else cell for cell in row]
                        for row in table.rows
                    ],
                    "note": table.note,
                }
                for table in self.tables
            ],
            "examples": [
                {"why": example.why, "records": [list(place) for place in example.records]}
                for example in self.examples
            ],
            "notes": list(self.notes),
        }


def _plain(value: float | Estimate) -> dict[str, Any]:
    """A number with its interval, where it has one; null for what isn't finite, which JSON can't hold."""
    row = vars(value) if isinstance(value, Estimate) else {"mean": float(value)}
    return {
        key: None if isinstance(number, float) and not math.isfinite(number) else number
        for key, number in row.items()
    }


def _value(row: dict[str, Any]) -> float | Estimate:
    """The number that `_plain` gave."""
    mean, low, high = (
        math.nan if row.get(key) is None else float(row[key]) for key in ("mean", "low", "high")
    )
    return Estimate(mean, low, high, row["n"]) if "n" in row else mean


class Records(Protocol):
    """The records of a split."""

    def __len__(self) -> int: ...

    def meta(self, index: int, /) -> dict[str, Any]:
        """A record as plain JSON values (see `schema.to_json`), without its images."""
        ...

    def __getitem__(self, index: int, /) -> PreferenceRecord: ...


@dataclass
class Data:
    """What is under audit: its name, its splits, and how the records of one are opened, which happens once, when they
    are first asked for.
    """

    name: str
    splits: tuple[str, ...]
    opening: Callable[[str], Records]
    options: Options = Options()
    progress: Progress = lambda what, done, total: None
    shared: dict[str, Any] = field(default_factory=dict, repr=False)  # what several audits collect once
    _opened: dict[str, Records] = field(default_factory=dict, repr=False)

    @staticmethod
    def of_directory(
        directory: Path,
        splits: tuple[str, ...] = (),
        options: Options | None = None,
        progress: Progress = lambda what, done, total: None,
        name: str = "",
    ) -> Data:
        """A finished data directory, under a name of its own or that of its folder; of its splits those that are named,
        or all.

        Raises:
            UserError: the directory is none, or has no such split.
        """
        known = {shard.split for shard in read_manifest(directory).shards}
        for split in splits:
            if split not in known:
                raise UserError(
                    f"{directory}: has no split {split!r}; it has: {', '.join(sorted(known)) or 'none'}"
                )
        return Data(
            name or directory.name,
            splits or in_order(known),
            lambda split: open_records(directory, split),
            options or Options(),
            progress,
        )

    def records(self, split: str) -> Records:
        """The records of a split, in the order in which the audits see them."""
        if split not in self._opened:
            self._opened[split] = self.opening(split)
        return self._opened[split]


def in_order(splits: Iterable[str]) -> tuple[str, ...]:
    """Splits in the order in which they are audited: train first."""
    return tuple(sorted(splits, key=lambda name: (name != "train", name)))


class Audit:
    """Base of the audits. `metrics` are the names under which it gives numbers."""

    name: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]] = {}
    headline: ClassVar[tuple[str, ...]] = ()  # of these, what the terminal shows; none named: all

    def __init__(self, data: Data) -> None:
        self.data = data

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        """Takes in one record (`schema.to_json`); called once for each, split by split, in order."""

    def finish(self) -> AuditResult:
        """What it found; called once, after all records were seen."""
        raise NotImplementedError

    def result(self, says: str, findings: Sequence[Finding] = (), **rest: Any) -> AuditResult:
        """An `AuditResult` under this audit's name; a finding of a metric that it doesn't list is a bug."""
        unknown = {finding.metric for finding in findings} - self.metrics.keys()
        if unknown:
            raise ValueError(f"{type(self).__name__} gives metrics that it doesn't list: {sorted(unknown)}")
        return AuditResult(self.name, self.title, says, tuple(findings), **rest)
