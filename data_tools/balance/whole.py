"""Whole units for a plan in fractions, such that every share stays within about one unit of its quota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_tools.balance.quota import Quota

if TYPE_CHECKING:
    import numpy as np

SNAP = 1e-6  # a number of units this near to a whole one is that
HALF = 1e-4  # a sum this near to a half is one, and goes up
STRICT = 1e3  # how much more a record off the total counts than one off a quota


def whole_units(
    wanted: np.ndarray, most: np.ndarray, sizes: np.ndarray, quotas: Sequence[Quota], total: int | None
) -> np.ndarray:
    """How many units of each cell, as integers: each `wanted` rounded down or up, and no more than `most`.

    First by largest remainder (of equal ones the first cell's), to the total or the nearest sum of records. Over many
    cells that may add up to some units too many of a quota, so then single units are moved, and where that doesn't
    help two at once, for as long as it brings the quotas that are off by more than one nearer.
    """
    import numpy as np

    near = np.rint(wanted)
    exact = np.where(np.abs(wanted - near) <= SNAP * np.maximum(1, near * SNAP), near, wanted)
    exact = np.minimum(exact, np.floor(most + SNAP))
    units = np.floor(exact)
    aim = float(total) if total is not None else float(np.floor(sizes @ exact + 0.5 + HALF))
    rest = aim - float(sizes @ units)
    for cell in np.argsort(-(exact - units).round(9), kind="stable"):
        if exact[cell] > units[cell] and sizes[cell] <= rest:
            units[cell] += 1
            rest -= float(sizes[cell])
    effects = np.stack(
        [quota.part - quota.value * quota.whole for quota in quotas] + [sizes * (total is not None)]
    )
    senses = [quota.sense for quota in quotas] + ["="]
    under = np.array([sense != "<=" for sense in senses])[:, None]
    over = np.array([sense != ">=" for sense in senses])[:, None]
    weight = np.array([1.0] * len(quotas) + [STRICT])[:, None]
    offset = np.array([0.0] * len(quotas) + [aim * (total is not None)])[:, None]

    def badness(states: np.ndarray) -> np.ndarray:
        """Of states (rows, n) as sums of effects: how far off in all, as (n,)."""
        off = np.where(((states > 0) & over) | ((states < 0) & under), states, 0.0)
        return np.asarray((weight * off**2).sum(0))

    while True:
        state = effects @ units[:, None] - offset
        off = np.where(((state > 0) & over) | ((state < 0) & under), np.abs(state), 0.0)
        if (off <= 1 + SNAP).all() and off[-1] < 1:
            break
        cells, steps = _steps(exact, units)
        moved = state + effects[:, cells] * steps
        now = float(badness(state)[0])
        best = _best(badness(moved), now)
        if best is not None:
            units[cells[best]] += steps[best]
            continue
        pair = _best_pair(moved, effects[:, cells] * steps, cells, badness, now)
        if pair is None:
            break
        for index in pair:
            units[cells[index]] += steps[index]
    return np.asarray(units.astype(np.int64))


def _steps(exact: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells that were rounded, and the step (1 or -1) to the other whole number."""
    import numpy as np

    cells = np.flatnonzero(exact != np.floor(exact))
    return cells, np.where(units[cells] <= exact[cells], 1.0, -1.0)


def _best(values: np.ndarray, now: float) -> int | None:
    """The first of the least values, where it is below `now`."""
    import numpy as np

    if not len(values) or values.min() >= now - SNAP:
        return None
    return int(np.argmin(values.round(9)))


def _best_pair(
    moved: np.ndarray, steps: np.ndarray, cells: np.ndarray, badness: object, now: float
) -> tuple[int, int] | None:
    """The two steps that together bring the quotas nearest."""
    found: tuple[float, int, int] | None = None
    for first in range(len(cells) - 1):
        values = badness(moved[:, first, None] + steps[:, first + 1 :])  # type: ignore[operator]
        best = _best(values, now if found is None else found[0])
        if best is not None:
            found = (float(values[best]), first, first + 1 + best)
    return found and (found[1], found[2])
