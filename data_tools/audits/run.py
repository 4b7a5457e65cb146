"""Runs the audits of a data directory, all in one pass over its records, and holds what they found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.audits import AUDITS
from data_tools.audits.base import (
    Audit,
    AuditResult,
    Data,
    Finding,
    Metric,
    Options,
    Progress,
    Records,
    Scope,
)
from data_tools.errors import UserError

STEP = 200  # records between two reports of progress


@dataclass(frozen=True)
class Report:
    """What the audits found in a data directory; `records` counts those seen, by split."""

    data: Data
    records: dict[str, int]
    results: tuple[AuditResult, ...]

    @property
    def findings(self) -> list[Finding]:
        """All numbers of all audits."""
        return [finding for result in self.results for finding in result.findings]

    @staticmethod
    def from_json(row: dict[str, Any]) -> Report:
        """What a report that `to_json` gave found; its records, tables, plots and examples are left out."""
        splits = tuple(row["records"])
        data = Data(row["directory"], splits, _gone, Options(row["seed"], row["max_pairs"]))
        results = tuple(AuditResult.from_json(found) for found in row["audits"])
        return Report(data, row["records"], results)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "directory": self.data.name,
            "records": self.records,
            "seed": self.data.options.seed,
            "max_pairs": self.data.options.max_pairs,
            "audits": [result.to_json() for result in self.results],
        }


def _gone(split: str) -> Records:
    raise UserError("a report that was read back has no records")


def known_metrics(only: Sequence[str] = ()) -> dict[str, Metric]:
    """The metrics of the named audits, of all if none is named, by their names."""
    return {name: metric for audit in chosen_audits(only) for name, metric in audit.metrics.items()}


def chosen_audits(only: Sequence[str] = ()) -> list[type[Audit]]:
    """The audits of these names, all if there are none, in their own order.

    Raises:
        UserError: there is no audit of such a name.
    """
    names = [audit.name for audit in AUDITS]
    for name in only:
        if name not in names:
            raise UserError(f"there is no audit {name!r}; there are: {', '.join(names)}")
    return [audit for audit in AUDITS if not only or audit.name in only]


def run_audits(
    directory: str | Path,
    splits: Sequence[str] = (),
    only: Sequence[str] = (),
    options: Options | None = None,
    progress: Progress | None = None,
) -> Report:
    """Audits the splits of a finished data directory, all of them if none is named, with the audits named by `only`.

    `progress` is told what is done, how far, and of how much.

    Raises:
        UserError: no such directory, split or audit, or a shard that is damaged.
    """
    show = progress or (lambda what, done, total: None)
    chosen_audits(only)  # a name that is none is told before anything is opened
    return audit_data(Data.of_directory(Path(directory), tuple(splits), options, show), only)


def audit_data(data: Data, only: Sequence[str] = ()) -> Report:
    """Audits what `data` holds with the audits named by `only`.

    Raises:
        UserError: no such audit, or a record that is damaged.
    """
    show = data.progress
    audits = [audit(data) for audit in chosen_audits(only)]
    numbers = {}
    for split in data.splits:
        records = data.records(split)
        numbers[split] = len(records)
        for index in range(len(records)):
            if index % STEP == 0:
                show(f"reading {split}", index, len(records))
            row = records.meta(index)
            for audit in audits:
                audit.see(split, index, row)
        show(f"reading {split}", len(records), len(records))
    results = []
    for number, audit in enumerate(audits):
        show("auditing", number, len(audits))
        results.append(audit.finish())
    show("auditing", len(audits), len(audits))
    data.shared.clear()  # hundreds of bytes a record, which nothing asks for any more
    return Report(data, numbers, tuple(results))


def distinct(findings: Sequence[Finding], others: Sequence[Finding] = ()) -> list[Finding]:
    """One finding for each metric, split and value: of parts of the data that are the same, under several names, the
    one that is named the most closely, before all by a name that is among `others` too."""
    known = {(finding.metric, finding.scope) for finding in others}

    def rank(finding: Finding) -> tuple[bool, int]:
        return (finding.metric, finding.scope) in known, closeness(finding.scope)

    best: dict[tuple[Any, ...], Finding] = {}
    for finding in findings:
        key = (finding.metric, finding.scope.split, repr(finding.value))
        if key not in best or rank(finding) > rank(best[key]):
            best[key] = finding
    return list(best.values())


def closeness(scope: Scope) -> int:
    """How many names a scope has."""
    return sum(bool(name) for name in vars(scope).values())


def beside(
    findings: Sequence[Finding], others: Sequence[Finding] = ()
) -> list[tuple[str, Scope, Finding | None, Finding | None]]:
    """The numbers of two audits side by side: metric, part of the data, and what each found there; parts that are the
    same, under several names, once."""
    mine, theirs = (
        {(finding.metric, finding.scope): finding for finding in found} for found in (findings, others)
    )
    shown = [*distinct(findings, others), *distinct(others, findings)]
    keys = dict.fromkeys((finding.metric, finding.scope) for finding in shown)
    return [(metric, scope, mine.get((metric, scope)), theirs.get((metric, scope))) for metric, scope in keys]
