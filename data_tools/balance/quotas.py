"""The balancer over records in memory: which of them stay.

Which units of a cell go is decided by a hash of the seed and their names, so the result doesn't depend on the order of
the input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from data_tools.balance.cells import Cell
from data_tools.balance.choice import chosen, unit_rank
from data_tools.balance.config import Balance
from data_tools.balance.solver import solve
from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord

__all__ = ["Balance", "apply_quotas"]

Unit = tuple[str, list[PreferenceRecord]]  # a name, and the records that stay or go together


def apply_quotas(
    records: Sequence[PreferenceRecord], balance: Balance, seed: int
) -> tuple[list[PreferenceRecord], dict[str, int]]:
    """The records that stay, in their order, and how many were dropped by source/modality/objectives.

    Raises:
        UserError: a quota or the total can't be met; it names the quota and what is short. Or the strategy repeats
            records, which a list of those that stay can't tell.
    """
    if balance.strategy != "choose":
        raise UserError(
            f"balance.strategy: {balance.strategy} needs the mixture; here records can only be left out"
        )
    cells = _cells(records)
    solution = solve(
        [cell_of(units[0][1], len(units)) for units in cells],
        balance,
    )
    stay: set[int] = set()
    for units, draw in zip(cells, solution.draws, strict=True):
        ranks = [unit_rank(seed, draw.cell.source, name) for name, _ in units]
        stay |= {id(record) for index in chosen(draw.keep, ranks) for record in units[index][1]}
    return [record for record in records if id(record) in stay], solution.dropped()


def cell_of(unit: Sequence[PreferenceRecord], units: int) -> Cell:
    """The cell of so many units like the given one; a unit with an image is of image-text."""
    objectives = Counter(name for record in unit for name in _compared(record))
    labels = Counter(label for record in unit for label in record.labels.types())
    image = any(record.modality == "image-text" for record in unit)
    return Cell(
        source=unit[0].source,
        modality="image-text" if image else "text",
        objectives=tuple(sorted(objectives.items())),
        labels=tuple(sorted(labels.items())),
        size=len(unit),
        units=units,
    )


def _cells(records: Sequence[PreferenceRecord]) -> list[list[Unit]]:
    """The units of each cell."""
    units: dict[tuple[str, str], list[PreferenceRecord]] = {}
    for record in records:
        flip = record.provenance.get("flip")
        units.setdefault((record.source, f"flip {flip}" if flip is not None else record.id), []).append(
            record
        )
    cells: dict[Cell, list[Unit]] = {}
    for (_, name), unit in sorted(units.items()):
        cells.setdefault(cell_of(unit, 1), []).append((name, unit))
    return list(cells.values())


def _compared(record: PreferenceRecord) -> Iterator[str]:
    """The objective of each comparison and ranking."""
    yield from (comparison.objective for comparison in record.comparisons)
    yield from (ranking.objective for ranking in record.rankings)
