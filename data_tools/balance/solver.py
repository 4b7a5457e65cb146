"""The balancer: counts in, plan out. It holds no records, so their number costs nothing.

solve(cells, balance) -> how many units of each cell stay, and how often an epoch of the mixture shows them
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_tools.balance.cells import Cell
from data_tools.balance.clash import clash
from data_tools.balance.config import Balance
from data_tools.balance.linear import SLACK
from data_tools.balance.program import Program
from data_tools.balance.quota import Quota, quotas_of, source_quotas
from data_tools.balance.solution import Draw, Reached, Solution
from data_tools.balance.weights import floors_by_source, source_weights, with_floors
from data_tools.balance.whole import whole_units
from data_tools.errors import UserError

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 0.005  # shares are written with two digits: three of 0.33 are meant to be thirds
FEW = 2  # a share may miss its quota by so many records, or by a unit, where these are more


def solve(cells: Sequence[Cell], balance: Balance) -> Solution:
    """The plan that meets the quotas.

    - `choose`: 0 to `units` of each cell stay and are drawn once. Of all that meets the quotas and the total, what
      comes nearest to the sources' weights, where some are set; of this what keeps the most records, but for the part
      `spread`; of this the most even (see `Program.best`).
    - `repeat`: every unit stays and is drawn 1 to `max_epochs` times on the average; as before, but as few records
      are drawn as the quotas and the total allow.
    - `proportion`: every unit stays; a source is drawn by its weight (temperature, weights, UniMax, or how many records
      it has), raised to its floor, and its cells by their sizes. `max_epochs` holds here too.

    Whole units come from rounding (see `whole_units`). The result depends on the cells and their numbers, not on the
    order in which they come.

    Raises:
        QuotasClash: quotas, total and caps can't be met together; it tells which, and the nearest that can be.
        UserError: a quota names what isn't there, or can't be met in whole units.
    """
    import numpy as np

    quotas_of(cells, balance)  # refuses what isn't there, also where there is nothing
    order = sorted((index for index, cell in enumerate(cells) if cell.units), key=lambda i: repr(cells[i]))
    there = [cells[index] for index in order]
    draws = [Draw(cell, 0, 0) for cell in cells]
    if not there:
        if balance.total is not None:
            raise UserError(f"balance.total: asks for {balance.total:,} records, but there are none")
        return Solution(balance.strategy, tuple(draws), ())
    asked = quotas_of(there, balance)
    if balance.strategy == "proportion":
        drawn, quotas, total = _in_proportion(there, balance)
    else:
        drawn, quotas, total = _in_quotas(there, balance, asked)
    sizes = np.array([float(cell.size) for cell in there])
    most = balance.most_epochs * np.array([float(cell.units) for cell in there])
    units = whole_units(drawn, most, sizes, quotas, total)
    for quota in quotas:
        _refuse_missed(quota, units)
    for index, cell, number in zip(order, there, units.tolist(), strict=True):
        draws[index] = Draw(cell, number, number if balance.strategy == "choose" else cell.units)
    reached = tuple(
        Reached(q.path, q.sense, q.value, float(q.part @ units), float(q.whole @ units), q.what)
        for q in asked
    )
    return Solution(balance.strategy, tuple(draws), reached)


def _records(cells: Sequence[Cell]) -> dict[str, int]:
    """Records by source."""
    records = dict.fromkeys(sorted({cell.source for cell in cells}), 0)
    for cell in cells:
        records[cell.source] += cell.records
    return records


def _in_quotas(
    cells: Sequence[Cell], balance: Balance, asked: list[Quota]
) -> tuple[np.ndarray, list[Quota], int | None]:
    """How many units of each cell are drawn, in fractions, under the quotas; and these and the total, as met."""
    import numpy as np

    records = _records(cells)
    weights = source_weights(balance, records, balance.total or sum(records.values()))
    low = 1.0 if balance.strategy == "repeat" else 0.0
    program = Program(cells, asked, low, balance.most_epochs, weights, balance.spread)
    units = np.array([float(cell.units) for cell in cells])
    for slack in (SLACK, TOLERANCE):
        draws = program.best(asked, balance.total, slack)
        if draws is not None:
            drawn = draws * units
            # what is rounded to are the shares as they could be met
            met = [q.asked(q.share(drawn)) if slack > SLACK and q.miss(q.share(drawn)) else q for q in asked]
            return drawn, met, balance.total
    raise clash(program, asked, balance.total)


def _in_proportion(cells: Sequence[Cell], balance: Balance) -> tuple[np.ndarray, list[Quota], int | None]:
    """How many units of each cell are drawn, in fractions, by the sources' weights; and these as quotas."""
    import numpy as np

    records = _records(cells)
    there = sum(records.values())
    total = balance.total or there
    weights = source_weights(balance, records, total) or {name: n / there for name, n in records.items()}
    weights = with_floors(weights, floors_by_source(balance, records))
    for source, weight in weights.items():
        if weight * total > balance.most_epochs * records[source] * (1 + 1e-9):
            most = balance.most_epochs * records[source]
            raise UserError(
                f"balance.max_epochs: the source {source} has the weight {weight:.4g}, {weight * total:,.0f} of "
                f"{total:,} records an epoch, but {balance.most_epochs:g} times its {records[source]:,} are "
                f"{most:,.0f}; raise max_epochs to {weight * total / records[source]:.3g}, lower balance.total to "
                f"{int(most / weight):,}, or weigh by unimax, which keeps to the cap"
            )
    drawn = [weights[cell.source] * total * cell.units / records[cell.source] for cell in cells]
    return np.array(drawn), source_quotas(cells, weights), total


def _refuse_missed(quota: Quota, units: np.ndarray) -> None:
    """Refuses a plan whose shares are off in whole units, which happens where there are few."""
    share, whole = quota.share(units), float(quota.whole @ units)
    unit = max(FEW, float(max(quota.whole)))
    if abs(quota.miss(share)) > max(TOLERANCE, unit / whole if whole else 0.0):
        raise UserError(
            f"{quota.path}: asks for {quota.value:.4g} of the {quota.what}, but in whole units {share:.4g} of "
            f"{whole:,.0f} is the nearest; there are too few to reach it, so raise or take out a quota"
        )
