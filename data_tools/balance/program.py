"""The balancer's linear programs.

Quotas are shares of what is drawn, so a program in numbers of units would have products of unknowns. Everything is
therefore counted per record drawn (Charnes and Cooper 1962): with N records in all and R drawn in an epoch, the
unknowns are tau = N / R and, for each group of cells, z = tau x (draws a unit). Quotas, caps and the total are then
linear, and 1 = the sum of mass z, where mass is a group's part of the N records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from data_tools.balance.cells import Cell
from data_tools.balance.linear import SLACK, Block, Linear
from data_tools.balance.quota import Quota

if TYPE_CHECKING:
    import numpy as np

FEW = 1e-4  # of the comparisons a record has on the average; so many must be left where shares of them are asked for
LEAST = 1e-6  # draws of a unit, as a part of the mean, that a weight may ask for


class Program:
    """The programs over some cells, each of which has units.

    `low` and `high` bound the draws of a unit in an epoch. `weights` are the shares of the sources to come as near to
    as the quotas allow; None weighs nothing. `spread` is what part of the records may be given up, or repeated more, so
    that the cells are drawn more evenly.

    Cells that are alike, per record, in everything that is asked for are one group: they are drawn alike.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        quotas: Sequence[Quota],
        low: float,
        high: float,
        weights: Mapping[str, float] | None = None,
        spread: float = 0.0,
    ) -> None:
        import numpy as np

        self.low, self.high, self.spread = low, high, spread
        self.records = sum(cell.records for cell in cells)
        sizes = np.array([float(cell.size) for cell in cells])
        comparisons = np.array([float(cell.comparisons) for cell in cells])
        sources = sorted({cell.source for cell in cells})
        of_source = np.array([float(sources.index(cell.source)) for cell in cells])
        looks = np.stack(
            [quota.part / sizes for quota in quotas]
            + [comparisons / sizes, of_source * (weights is not None)],
            axis=1,
        )
        looks, self.group = np.unique(looks.round(12), axis=0, return_inverse=True)
        mass = np.array([cell.records / self.records for cell in cells])
        self.mass = np.bincount(self.group, mass, len(looks))
        self.part = {quota.path: looks[:, index] for index, quota in enumerate(quotas)}
        self.whole = {"records": np.ones(len(looks)), "comparisons": looks[:, len(quotas)]}
        self.mean = float(self.mass @ self.whole["comparisons"])
        # the weight of each source, and which groups are of it
        self.weighted = [
            (weights[source], (looks[:, -1] == index).astype(float))
            for index, source in enumerate(sources)
            if weights is not None
        ]

    def best(self, quotas: Sequence[Quota], total: int | None, slack: float = SLACK) -> np.ndarray | None:
        """How often a unit of each cell is drawn; None where the quotas and the total can't be met together.

        A share may be off by `slack`.

        In this order: the quotas and the total hold; the sources are as near to the weights as can be (the sum of the
        differences); as many records are drawn as can be where units are left out (`low` = 0), and as few where they
        are repeated, but for the part `spread`; and of all the ways to do that, the most even one (see `_evenly`).
        """
        import numpy as np

        found = self._sized(quotas, total, slack)
        if found is None:
            return None
        # rounded, so that platforms whose last digits differ plan alike
        draws = self._evenly(*found).round(9)
        return np.asarray(np.clip(draws, self.low, self.high)[self.group])

    def numbers(self, quota: Quota, quotas: Sequence[Quota], total: int | None) -> tuple[float, float] | None:
        """How much there is of what `quota` is about, and of what it is a share of, where `quotas` and the total hold
        and as much is drawn as `best` does; None where they can't be met together.
        """
        found = self._sized(quotas, total, 10 * SLACK)
        if found is None:
            return None
        drawn = self.records * self.mass * found[1][: len(self.mass)]
        return float(drawn @ self.part[quota.path]), float(drawn @ self.whole[quota.what])

    def _sized(
        self, quotas: Sequence[Quota], total: int | None, slack: float
    ) -> tuple[Linear, np.ndarray] | None:
        """The program of all plans that are as good as can be but for evenness, and one of them."""
        import numpy as np

        groups, weighted = len(self.mass), self.weighted
        differences = np.zeros(groups + 1 + len(weighted))
        differences[groups + 1 :] = 1
        nearest = self._weighed(self._program(quotas, total, len(weighted), slack=slack)).minimise(
            differences
        )
        if nearest is None:
            return None
        # per record there is, from here on: tau is 1, and z how often a unit is drawn
        program = self._weighed(self._program(quotas, total, len(weighted) + 1, over=None, slack=slack))
        differences[:groups] = -self.mass * (nearest.value + SLACK)
        program.at_most(differences, 0.0)
        sign = -1.0 if self.low == 0 else 1.0
        found = program.minimise(sign * self.mass)
        if found is None:
            return None
        records = sign * found.value
        bound = records * (1 + sign * self.spread) + sign * SLACK
        program.at_most(sign * self.mass, sign * bound)
        return program, found.at

    def _weighed(self, program: Linear) -> Linear:
        """The program with the differences between the sources' shares and weights, its variables behind tau."""
        import numpy as np

        for index, (weight, member) in enumerate(self.weighted):
            row = np.zeros(program.width)
            row[: len(self.mass)] = self.mass * (member - weight)
            for sign in (1, -1):
                signed = sign * row
                signed[len(self.mass) + 1 + index] = -1
                program.at_most(signed, 0.0)
        return program

    def _evenly(self, program: Linear, solution: np.ndarray) -> np.ndarray:
        """Of all solutions of the program, of which one is given, the most even one: the draws of each group.

        Where units are left out, the group that keeps the smallest part keeps as much as it can, then the next one,
        and so on (the lexicographic maximum of the minimum; where they are repeated, the minimum of the maximum).
        There is only one such solution. It doesn't depend on where a simplex method stops, and gives up a group only
        where every solution does; the nearest by least squares can give up one for the sake of others. Parts are
        measured against the sources' weights where there are any. The last variable is the level that is raised.
        """
        import numpy as np

        ideal = np.ones(len(self.mass))
        for weight, member in self.weighted:
            # a weight of next to nothing must still end the level's rise
            ideal += member * (max(weight / float(self.mass @ member), LEAST) - 1)
        sign = 1.0 if self.low == 0 else -1.0  # leaving out: level * ideal <= z, and the level is raised
        draws = np.zeros(len(self.mass))
        free = np.arange(len(self.mass))
        while len(free):
            rows = np.arange(len(free))
            block = Block(
                values=np.concatenate([sign * ideal[free], np.full(len(free), -sign)]),
                rows=np.concatenate([rows, rows]),
                columns=np.concatenate([np.full(len(free), program.width - 1), free]),
                bounds=np.zeros(len(free)),
            )
            aim = np.zeros(program.width)
            aim[-1] = -sign
            found = program.minimise(aim, block)
            if found is None:  # there is one, but so little room around it that HiGHS misses it
                draws[free] = solution[free]
                break
            solution = found.at
            level = float(solution[-1])
            # what stops the level, and what has come to its own end with it
            end = (
                level * ideal[free] >= self.high - SLACK
                if sign > 0
                else level * ideal[free] <= self.low + SLACK
            )
            bound = (found.binding > SLACK) | end
            if not bound.any():  # each multiplier is lost in rounding; those at the level are what stops it
                bound = np.abs(solution[free] - level * ideal[free]) <= 10 * SLACK
            for group in free[bound]:
                draws[group] = level * ideal[group]
                if sign > 0:
                    program.lower[int(group)] = max(draws[group] - SLACK, 0.0)
                else:
                    program.upper[int(group)] = draws[group] + SLACK
            free = free[~bound]
        return draws

    def feasible(self, quotas: Sequence[Quota], total: int | None) -> bool:
        """Whether the quotas and the total can be met together."""
        import numpy as np

        return self._program(quotas, total).minimise(np.zeros(1)) is not None

    def shares(self, quota: Quota, others: Sequence[Quota], total: int | None) -> tuple[float, float] | None:
        """The least and the greatest share that `quota` can have while the others hold; None where they can't."""
        program = self._program([*others], total, over=quota.what, some=[quota])
        row = self.mass * self.part[quota.path]
        least, most = program.minimise(row), program.minimise(-row)
        return (least.value, -most.value) if least is not None and most is not None else None

    def totals(self, quotas: Sequence[Quota]) -> tuple[float, float] | None:
        """The least and the greatest number of records that can be drawn under the quotas; None where none can."""
        import numpy as np

        program = self._program(quotas, None)
        tau = np.zeros(program.width)
        tau[-1] = 1
        most = program.minimise(tau)
        if most is None:
            return None
        if self.low == 0:
            return 0.0, self.records / most.value
        least = program.minimise(-tau) or most
        return self.records / abs(least.value), self.records / most.value

    def nearest(
        self, fixed: Sequence[Quota], giving: Sequence[Quota], total: int | None, total_gives: bool
    ) -> tuple[list[float], float | None] | None:
        """The shares that the `giving` quotas have, and the total, where together they give way the least; None where
        even so the fixed ones can't be met.

        The least sum of what the shares miss and, relative to what is asked for, the total.
        """
        import numpy as np

        groups = len(self.mass)
        program = self._program(fixed, None if total_gives else total, extra=len(giving) + 1, some=giving)
        aim = np.zeros(program.width)
        for index, quota in enumerate(giving):
            column = groups + 1 + index
            aim[column] = 1 / (self.mean if quota.what == "comparisons" and self.mean else 1)
            self._ask(program, quota, gives=column)
        if total is not None and total_gives:
            scale = self.records / total
            aim[-1] = 1 / scale
            for sign in (1, -1):
                row = np.zeros(program.width)
                row[:groups], row[groups], row[-1] = -sign * scale * self.mass, sign, -1
                program.at_most(row, 0.0)
        found = program.minimise(aim)
        if found is None:
            return None
        z = self.mass * found.at[:groups]
        wholes = {what: float(z @ whole) for what, whole in self.whole.items()}
        values = []
        for quota in giving:
            share = float(z @ self.part[quota.path]) / wholes[quota.what] if wholes[quota.what] else 0.0
            values.append(min(max(share, 0.0), 1.0) if abs(quota.miss(share)) > SLACK else quota.value)
        return values, None if total is None else self.records / float(found.at[groups])

    def _program(
        self,
        quotas: Sequence[Quota],
        total: int | None,
        extra: int = 0,
        over: str | None = "records",
        some: Sequence[Quota] = (),
        slack: float = SLACK,
    ) -> Linear:
        """What holds for every plan: caps, quotas, the total; the numbers are per one of `over` that is drawn, or
        where that is None per record that there is.

        `some` are quotas that aren't asked for here, but of whose kind there must be some.
        """
        import numpy as np

        groups = len(self.mass)
        program = Linear(groups + 1 + extra)
        rows, tau, ones = np.arange(groups), np.full(groups, groups), np.ones(groups)
        for sign, bound in ((1.0, self.high), (-1.0, self.low)):  # low tau <= z <= high tau
            values = np.concatenate([sign * ones, -sign * bound * ones])
            program.rows_at_most(
                Block(values, np.concatenate([rows, rows]), np.concatenate([rows, tau]), 0 * ones)
            )
        if over is None:
            program.equal(np.append(np.zeros(groups), 1.0), 1.0)
        else:
            program.equal(self.mass * self.whole[over], 1.0)
        if total is not None:
            program.equal(np.append(-self.records / total * self.mass, 1.0), 0.0)
        for quota in quotas:
            self._ask(program, quota, slack)
        if any(q.what == "comparisons" and q.value > 0 and q.sense != "<=" for q in (*quotas, *some)):
            program.at_most(self.mass * (FEW * self.mean - self.whole["comparisons"]), 0.0)
        return program

    def _ask(self, program: Linear, quota: Quota, slack: float = 0.0, gives: int | None = None) -> None:
        """Puts a quota into the program; its share may be off by `slack`, and by as much as the variable `gives` is."""
        import numpy as np

        groups = len(self.mass)
        whole = self.mass * self.whole[quota.what]
        for sign, sense in ((1.0, "<="), (-1.0, ">=")):
            if quota.sense in ("=", sense):
                row = np.zeros(program.width)
                row[:groups] = (
                    sign * (self.mass * self.part[quota.path] - quota.value * whole) - slack * whole
                )
                if gives is not None:
                    row[gives] = -1
                program.at_most(row, 0.0)
