"""How far judges agree: Krippendorff's alpha (Content Analysis, 2004, chapter 11) of each objective.

A unit is what two judges or more have judged: two answers to a prompt, of which each judge chose one or none (nominal),
or one answer that each judge rated (interval). 1 is full agreement, 0 what chance would give; below 0 they differ
more than by chance. As Krippendorff has it, 0.8 is reliable, and below 0.667 nothing should be concluded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from data_tools.audits.base import Audit, AuditResult, Cell, Data, Finding, Metric, Scope, Table
from data_tools.audits.sampled import SCOPE_COLUMNS, scope_cells, wider
from data_tools.intervals import Estimate, Ints

Kind = Literal["votes", "ratings"]
LEVELS: dict[Kind, Literal["nominal", "interval"]] = {"votes": "nominal", "ratings": "interval"}
FINE = 1000  # steps of a scale: ratings that differ by less are the same
ROUNDS = 1000

Values = tuple[tuple[int, int], ...]  # of one unit: each value and how many judges gave it


@dataclass
class _Units:
    """The units of one kind and part of the data; equal ones are counted, so that a million needs no more room than a
    few."""

    patterns: Counter[Values] = field(default_factory=Counter)
    judges: set[str] = field(default_factory=set)

    def add(self, values: Mapping[str, int]) -> None:
        """Takes in a unit: each judge's value."""
        if len(values) > 1:
            self.patterns[tuple(sorted(Counter(values.values()).items()))] += 1
            self.judges.update(values)

    def update(self, other: _Units) -> None:
        """Takes in the units of another part."""
        self.patterns.update(other.patterns)
        self.judges |= other.judges


class Agreement(Audit):
    """Krippendorff's alpha."""

    name: ClassVar[str] = "agreement"
    title: ClassVar[str] = "Whether judges agree"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "vote_alpha": Metric(
            "Krippendorff's alpha of judges' choices between two answers (nominal)", share=False
        ),
        "rating_alpha": Metric(
            "Krippendorff's alpha of judges' ratings of one answer (interval)", share=False
        ),
        "vote_agreement": Metric("share of two judges' choices between two answers that are the same"),
    }

    headline: ClassVar[tuple[str, ...]] = ("vote_alpha", "rating_alpha")

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._units: dict[tuple[Kind, Scope], _Units] = defaultdict(_Units)

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        modality = "image-text" if row["images"] else "text"
        kinds: tuple[tuple[Kind, dict[tuple[str, Any], dict[str, int]]], ...] = (
            ("votes", _votes(row)),
            ("ratings", _ratings(row)),
        )
        for kind, units in kinds:
            for (objective, _), values in units.items():
                self._units[kind, Scope(split, modality, objective, row["source"])].add(values)

    def finish(self) -> AuditResult:
        findings, rows, sentences = [], list[tuple[Cell, ...]](), []
        splits = self.data.splits
        parts = sorted(self._wider().items(), key=lambda part: (splits.index(part[0][1].split), part[0]))
        for (kind, scope), units in parts:
            found = alpha(units.patterns, LEVELS[kind], self.data.options.seed)
            same = percent_agreement(units.patterns)
            findings.append(Finding(f"{kind[:-1]}_alpha", found, scope))
            if kind == "votes":
                findings.append(Finding("vote_agreement", same, scope))
            if (kind, scope) in self._units:
                shown = [f"{value:.3f}" for value in (found.mean, found.low, found.high)]
                judges = len(units.judges)
                rows.append(
                    (
                        *scope_cells(scope),
                        kind,
                        found.n,
                        judges,
                        shown[0],
                        " to ".join(shown[1:]),
                        f"{same:.1%}",
                    )
                )
                sentences.append(
                    f"{scope.split}, {scope.objective} ({scope.source}): alpha {shown[0]} ({' to '.join(shown[1:])}) "
                    f"over {found.n:,} units and {judges} judges."
                )
        if not rows:
            return self.result("No record tells what several judges said, so their agreement isn't known.")
        columns = (*SCOPE_COLUMNS, "of", "units", "judges", "alpha", "95 % interval", "two judges agree")
        note = "The interval is over units, drawn one by one."
        return self.result(
            " ".join(sentences), findings, tables=(Table("Krippendorff's alpha", columns, tuple(rows), note),)
        )

    def _wider(self) -> dict[tuple[Kind, Scope], _Units]:
        """The units of every part of the data that has any, the objective always named: others don't mix."""
        found: dict[tuple[Kind, Scope], _Units] = defaultdict(_Units)
        for (kind, full), units in self._units.items():
            if units.patterns:
                for scope in wider(full):
                    if scope.objective:
                        found[kind, scope].update(units)
        return found


def _votes(row: dict[str, Any]) -> dict[tuple[str, Any], dict[str, int]]:
    """By objective and two answers, each judge's choice: 0 the answer whose text comes first by the alphabet, 1 the
    other, 2 none. A judge who speaks twice counts once, with the first.

    Where two answers have no votes, their comparisons are the choices, such as those of the judges of two data sets
    whose copies were merged; where they have, a comparison sums these up and is none of its own.
    """
    texts = [response["text"] for response in row["responses"]]

    def by_judge(choices: Sequence[dict[str, Any]]) -> dict[tuple[str, Any], dict[str, int]]:
        units: dict[tuple[str, Any], dict[str, int]] = defaultdict(dict)
        for choice in choices:
            better, worse = choice["better"], choice["worse"]
            pair = tuple(sorted((better, worse), key=lambda at: (texts[at], at)))
            value = 2 if choice["tie"] else pair.index(better)
            units[choice["objective"], pair].setdefault(choice["judge"], value)
        return units

    votes = by_judge(row.get("votes", ()))  # most records have none
    return by_judge(row["comparisons"]) | votes if len(row["comparisons"]) > 1 or votes else {}


def _ratings(row: dict[str, Any]) -> dict[tuple[str, Any], dict[str, int]]:
    """By objective and answer, each judge's rating, in steps of its scale."""
    units: dict[tuple[str, Any], dict[str, int]] = defaultdict(dict)
    for rating in row["ratings"]:
        width = rating["high"] - rating["low"]
        if width > 0:
            value = round(FINE * (rating["value"] - rating["low"]) / width)
            units[rating["objective"], rating["response"]].setdefault(rating["judge"], value)
    return units


def alpha(patterns: Mapping[Values, int], level: Literal["nominal", "interval"], seed: int = 0) -> Estimate:
    """Krippendorff's alpha of units, given as the values of one (each with how many judges gave it, two or more in all)
    and how many units are like it; with a bootstrap interval over units. `n` counts units.

    It is counted from patterns, not from a matrix of units, so a million units need no more room than a few. Where all
    judges gave all units one value there is nothing to agree on: alpha isn't defined, and NaN.

    Raises:
        ValueError: no unit.
    """
    names = sorted(patterns)
    if not names:
        raise ValueError("alpha needs at least one unit that two judges have judged")
    numbers = np.array([patterns[name] for name in names], dtype=np.int64)
    domain = np.array(sorted({value for name in names for value, _ in name}), dtype=np.int64)
    table = _table(names, domain.tolist())
    total = int(numbers.sum())
    # to draw units one by one is to draw how many of each pattern
    rng = np.random.default_rng(seed)
    drawn = [_alpha(table, domain, rng.multinomial(total, numbers / total), level) for _ in range(ROUNDS)]
    known = np.array(drawn)[np.isfinite(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (np.nan, np.nan)
    return Estimate(_alpha(table, domain, numbers, level), float(low), float(high), total)


def percent_agreement(patterns: Mapping[Values, int]) -> float:
    """The mean over units of the share of two judges whose values are the same."""
    same = total = 0.0
    for values, number in patterns.items():
        judges = sum(count for _, count in values)
        same += number * sum(count * (count - 1) for _, count in values) / (judges * (judges - 1))
        total += number
    return same / total


def _table(names: Sequence[Values], domain: Sequence[int]) -> Ints:
    """A row of value counts for each pattern."""
    place = {value: at for at, value in enumerate(domain)}
    table = np.zeros((len(names), len(domain)), dtype=np.int64)
    for row, values in enumerate(names):
        for value, count in values:
            table[row, place[value]] = count
    return table


def _alpha(table: Ints, domain: Ints, numbers: Ints, level: str) -> float:
    """1 - observed / expected disagreement, `numbers` units of each pattern. Both are sums of squared distances, of
    values or, where they are names, of unit vectors: sum over i, j of |x_i - x_j|^2 = 2 n sum |x|^2 - 2 |sum x|^2.
    """
    values = np.eye(len(domain)) if level == "nominal" else domain[:, None].astype(np.float64)
    squares = (values**2).sum(1)
    judges = table.sum(1)
    within = judges * (table @ squares) - ((table @ values) ** 2).sum(1)
    observed = (numbers * within / (judges - 1)).sum()
    totals = (numbers @ table).astype(np.float64)
    count = totals.sum()
    expected = (count * (totals @ squares) - ((totals @ values) ** 2).sum()) / (count - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")
