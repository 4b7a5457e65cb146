"""What the audits of pairs share: one sample, its groups, the parts of the data, and the share that is right there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from data_tools.audits.base import Audit, Cell, Data, Finding, Scope, Table
from data_tools.audits.folds import folds_of, groups_of
from data_tools.audits.pairs import Pair, PairSample
from data_tools.intervals import Estimate, Floats, Ints, clustered_share


class SharedPairs:
    """The sample that all audits of pairs look at."""

    def __init__(self, data: Data) -> None:
        self.seed, self.splits = data.options.seed, data.splits
        self.sample = PairSample(data.options.max_pairs, self.seed)

    @cached_property
    def pairs(self) -> list[Pair]:
        """All pairs of the sample; asked for once the last record was seen."""
        return self.sample.pairs()

    @cached_property
    def groups(self) -> Ints:
        """A number for each pair, the same for all that hang together."""
        return groups_of(self.pairs)

    @cached_property
    def first(self) -> Floats:
        """1 where the first answer is the better one, else 0."""
        return np.array([pair.better == 0 for pair in self.pairs], dtype=np.float64)

    @cached_property
    def tasks(self) -> dict[Scope, Ints]:
        """The pairs of each modality, objective and source, whatever their split: what one rule is fitted to."""
        return _members(
            [Scope("", pair.modality, pair.objective, pair.source, "") for pair in self.pairs], wide=False
        )

    @cached_property
    def scopes(self) -> dict[Scope, Ints]:
        """The pairs of each part of the data, for every choice of names that some pair has; the split is always named.
        Kinds of labels are told apart only where there are several."""
        several = len({pair.label for pair in self.pairs}) > 1
        found = _members(
            [
                Scope(pair.split, pair.modality, pair.objective, pair.source, pair.label if several else "")
                for pair in self.pairs
            ],
            wide=True,
        )
        return {scope: found[scope] for scope in sorted(found, key=self._place)}

    def _place(self, scope: Scope) -> tuple[int, Scope]:
        return self.splits.index(scope.split), scope

    def folds(self, members: Ints) -> Ints:
        """A fold for each of these pairs."""
        return folds_of(self.groups[members], self.seed)

    def right(self, scores: Floats) -> Floats:
        """1 where a score, above 0 for the first answer, names the better one, 0.5 where it is 0, else 0; NaN stays."""
        return (np.sign(scores) * (2 * self.first - 1) + 1) / 2

    def shares(self, values: Floats) -> dict[Scope, Estimate]:
        """The mean of the values (1: right, 0.5: a tie, 0: wrong, NaN: not said) in each part of the data, the pairs of
        a group drawn together. A part of which nothing is said has no share."""
        found: dict[Scope, Estimate] = {}
        known: dict[bytes, Estimate | None] = {}
        for scope, members in self.scopes.items():
            members = members[~np.isnan(values[members])]
            key = members.tobytes()  # most parts have several names
            if key not in known:
                known[key] = share(values[members], self.groups[members])
            estimate = known[key]
            if estimate is not None:
                found[scope] = estimate
        return found

    @cached_property
    def rows(self) -> list[Scope]:
        """A name for every distinct part of the data, the most telling one; for tables."""
        names: dict[bytes, Scope] = {}
        for scope, members in self.scopes.items():
            key = members.tobytes()
            if key not in names or _filled(scope) > _filled(names[key]):
                names[key] = scope
        return sorted(names.values(), key=self._place)


def _members(full: Sequence[Scope], wide: bool) -> dict[Scope, Ints]:
    """The indices of those that have each scope, with `wide` also of those that fall under wider ones; in order."""
    narrow: dict[Scope, list[int]] = {}
    for index, scope in enumerate(full):
        narrow.setdefault(scope, []).append(index)
    found: dict[Scope, list[int]] = {}
    for scope, members in narrow.items():
        for name in wider(scope) if wide else [scope]:
            found.setdefault(name, []).extend(members)
    return {scope: np.array(sorted(found[scope]), dtype=np.int64) for scope in sorted(found)}


def wider(scope: Scope) -> Iterator[Scope]:
    """All scopes that this one falls under, itself among them; the split stays."""
    names = (scope.modality, scope.objective, scope.source, scope.label)
    for chosen in product(*((name, "") if name else ("",) for name in names)):
        yield Scope(scope.split, *chosen)


def _filled(scope: Scope) -> int:
    return sum(bool(name) for name in (scope.modality, scope.objective, scope.source, scope.label))


def share(values: Floats, groups: Ints) -> Estimate | None:
    """The mean of shares from 0 to 1 with its interval over groups; None of nothing. Where each group is at one half by
    itself, as flip pairs are, that is no luck: the interval has no width."""
    if len(values) and _all_even(values, groups):
        return Estimate(0.5, 0.5, 0.5, len(values))
    return clustered_share(values, groups)


def _all_even(values: Floats, groups: Ints) -> bool:
    """Whether each group has as much above one half as below it, and not a single value."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return bool((sizes > 1).all()) and not np.bincount(place, values - 0.5).any()


class PairAudit(Audit):
    """Base of the audits that look at pairs; the first of them collects for all."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._collects = "pairs" not in data.shared
        self.shared: SharedPairs = data.shared.setdefault("pairs", SharedPairs(data))

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        if self._collects:
            self.shared.sample.see(split, index, row)

    def findings(self, **shares: dict[Scope, Estimate]) -> list[Finding]:
        """A finding for each metric and part of the data."""
        return [
            Finding(metric, value, scope)
            for metric, found in shares.items()
            for scope, value in found.items()
        ]

    def table(self, title: str, note: str = "", **shares: dict[Scope, Estimate]) -> Table:
        """A row for each distinct part of the data of which one of the shares says something."""
        rows = []
        for scope in self.shared.rows:
            cells: list[Cell] = [found.get(scope) for found in shares.values()]
            if any(cell is not None for cell in cells):
                pairs = max(cell.n for cell in cells if isinstance(cell, Estimate))
                rows.append((*scope_cells(scope), pairs, *cells))
        columns = (*SCOPE_COLUMNS, "pairs", *(name.replace("_", " ") for name in shares))
        return Table(title, columns, tuple(rows), note)


SCOPE_COLUMNS = ("split", "kind", "objective", "source")


def scope_cells(scope: Scope) -> tuple[str, ...]:
    """A scope as the first cells of a table's row."""
    source = f"{scope.source} ({scope.label}s)" if scope.label else scope.source
    return (scope.split or "all", scope.modality or "all", scope.objective or "all", source or "all")
