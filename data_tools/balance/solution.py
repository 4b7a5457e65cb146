"""What the balancer answers with: how many units of each cell are drawn, and what shares that makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_tools.balance.cells import Cell

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Draw:
    """Of a cell, `keep` units stay, and an epoch shows each `repeat` times on the average, `drawn` in all."""

    cell: Cell
    drawn: int
    keep: int

    @property
    def repeat(self) -> float:
        """Draws a unit that stays; 0 where none does."""
        return self.drawn / self.keep if self.keep else 0.0


@dataclass(frozen=True)
class Reached:
    """A quota: the share asked for (`sense` is `=`, `>=` or `<=`), and the `count` of `whole` that is drawn."""

    path: str
    sense: str
    asked: float
    count: float
    whole: float
    what: str

    @property
    def share(self) -> float:
        """The share that was reached."""
        return self.count / self.whole if self.whole else 0.0


@dataclass(frozen=True)
class Solution:
    """A plan of the mixture: `draws` in the order of the cells, and the quotas as they are reached."""

    strategy: str
    draws: tuple[Draw, ...]
    quotas: tuple[Reached, ...]

    @property
    def records(self) -> int:
        """How many records an epoch shows."""
        return sum(draw.drawn * draw.cell.size for draw in self.draws)

    @property
    def weights(self) -> dict[str, float]:
        """By source, its share of the records that an epoch shows."""
        shown, total = self._by_source("drawn"), self.records
        return {source: number / total if total else 0.0 for source, number in shown.items()}

    @property
    def repeats(self) -> dict[str, float]:
        """By source, how often an epoch shows a record that stays, on the average; 0 where none does."""
        shown, kept = self._by_source("drawn"), self._by_source("keep")
        return {source: shown[source] / kept[source] if kept[source] else 0.0 for source in shown}

    def dropped(self) -> dict[str, int]:
        """By the names of the cells, how many records don't stay; those of which all do aren't named."""
        gone: Counter[str] = Counter()
        for draw in self.draws:
            gone[draw.cell.name] += (draw.cell.units - draw.keep) * draw.cell.size
        return {name: number for name, number in sorted(gone.items()) if number}

    def row(self) -> dict[str, Any]:
        """The plan as plain values, for a manifest or `table`.

        - strategy; records: those an epoch shows;
        - cells: what each one is (see `Cell`), its units, how many are kept and drawn, and repeat;
        - sources: by name, the records there are, kept and drawn, the weight and repeat;
        - quotas: by path, what was asked for and reached, as a share and in numbers.
        """
        have, kept, drawn = Counter[str](), self._by_source("keep"), self._by_source("drawn")
        for draw in self.draws:
            have[draw.cell.source] += draw.cell.records
        return {
            "strategy": self.strategy,
            "records": self.records,
            "cells": [
                {
                    "name": draw.cell.name,
                    "objectives": dict(draw.cell.objectives),
                    "labels": dict(draw.cell.labels),
                    "size": draw.cell.size,
                    "units": draw.cell.units,
                    "kept": draw.keep,
                    "drawn": draw.drawn,
                    "repeat": round(draw.repeat, 4),
                }
                for draw in self.draws
            ],
            "sources": {
                source: {
                    "records": have[source],
                    "kept": kept[source],
                    "drawn": drawn[source],
                    "weight": round(weight, 6),
                    "repeat": round(self.repeats[source], 4),
                }
                for source, weight in self.weights.items()
            },
            "quotas": {
                quota.path: {
                    "sense": quota.sense,
                    "asked": quota.asked,
                    "reached": round(quota.share, 6),
                    "count": round(quota.count, 2),
                    "of": round(quota.whole, 2),
                    "what": quota.what,
                }
                for quota in self.quotas
            },
        }

    def _by_source(self, number: str) -> dict[str, int]:
        """Records by source, in alphabetical order."""
        counts = dict.fromkeys(sorted({draw.cell.source for draw in self.draws}), 0)
        for draw in self.draws:
            counts[draw.cell.source] += getattr(draw, number) * draw.cell.size
        return counts


def table(row: Mapping[str, Any]) -> Group:
    """The `row` of a solution as tables for the terminal."""
    from rich.console import Group
    from rich.table import Table

    cells = Table("cell", "records a unit", "units", "kept", "drawn", "repeat", title="Units an epoch shows")
    for cell in row["cells"]:
        numbers = (f"{cell[key]:,}" for key in ("size", "units", "kept", "drawn"))
        cells.add_row(cell["name"], *numbers, f"{cell['repeat']:.2f}")
    sources = Table("source", "records", "kept", "drawn", "weight", "repeat", title="Sources")
    for name, source in row["sources"].items():
        numbers = (f"{source[key]:,}" for key in ("records", "kept", "drawn"))
        sources.add_row(name, *numbers, f"{source['weight']:.1%}", f"{source['repeat']:.2f}")
    parts: list[Any] = [cells, sources]
    if row["quotas"]:
        quotas = Table("quota", "asked", "reached", "number", title="Quotas")
        for path, quota in row["quotas"].items():
            sense = "" if quota["sense"] == "=" else f"{quota['sense']} "
            number = f"{quota['count']:,g} of {quota['of']:,g} {quota['what']}"
            quotas.add_row(path, f"{sense}{quota['asked']:.2%}", f"{quota['reached']:.2%}", number)
        parts.append(quotas)
    return Group(*parts)
