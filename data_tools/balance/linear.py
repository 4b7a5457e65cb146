"""A linear program that is written down row by row and solved by HiGHS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

EXACT = 1e-9  # the tolerance of HiGHS
OPTIMAL, UNBOUNDED = 0, 3  # of linprog's statuses
SLACK = 1e-8  # what one program found, the next one may miss by so much, lest rounding make it impossible


@dataclass(frozen=True)
class Optimum:
    """The best value, where it is reached, and how hard each row of the extra block binds (0: not)."""

    value: float
    at: np.ndarray
    binding: np.ndarray


@dataclass(frozen=True)
class Block:
    """Rows of few entries each, at most `bounds`; `values[k]` stands in `rows[k]` and `columns[k]`."""

    values: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    bounds: np.ndarray

    def matrix(self, width: int) -> Any:
        """The rows as a sparse matrix of `width` columns."""
        from scipy import sparse

        return sparse.csr_array((self.values, (self.rows, self.columns)), shape=(len(self.bounds), width))


class Linear:
    """Variables of at least 0, rows on them, and an aim; `width` is how many there are."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lower: dict[int, float] = {}
        self.upper: dict[int, float] = {}
        self._most: list[Any] = []
        self._bounds: list[Any] = []
        self._equal: list[np.ndarray] = []
        self._values: list[float] = []

    def at_most(self, row: np.ndarray, bound: float) -> None:
        """Asks for row @ x <= bound; the row may be shorter than x, and is 0 from there on."""
        import numpy as np
        from scipy import sparse

        self._most.append(sparse.csr_array(_wide(row, self.width)[None, :]))
        self._bounds.append(np.array([bound]))

    def equal(self, row: np.ndarray, value: float) -> None:
        """Asks for row @ x = value."""
        self._equal.append(_wide(row, self.width))
        self._values.append(value)

    def rows_at_most(self, block: Block) -> None:
        """Asks for many rows of few entries each."""
        self._most.append(block.matrix(self.width))
        self._bounds.append(block.bounds)

    def minimise(self, cost: np.ndarray, block: Block | None = None) -> Optimum | None:
        """The optimum of cost @ x, this time under the rows of `block` as well; None where no x meets all rows, or
        meets them by so little that no method of HiGHS reaches one.

        Raises:
            RuntimeError: there is no least value, which should not occur.
        """
        import numpy as np
        from scipy import sparse

        most, bounds = list(self._most), list(self._bounds)
        if block is not None:
            most.append(block.matrix(self.width))
            bounds.append(block.bounds)
        problem: dict[str, Any] = {
            "A_ub": sparse.vstack(most, format="csr"),
            "b_ub": np.concatenate(bounds),
            "A_eq": np.stack(self._equal),
            "b_eq": self._values,
            "bounds": [(self.lower.get(i, 0.0), self.upper.get(i)) for i in range(self.width)],
            "options": {"primal_feasibility_tolerance": EXACT, "dual_feasibility_tolerance": EXACT},
        }
        found = _solved(_wide(cost, self.width), problem)
        if found is None:
            return None
        last = len(block.bounds) if block is not None else 0
        binding = -found.ineqlin.marginals[len(found.ineqlin.marginals) - last :]
        return Optimum(float(found.fun), found.x, binding)


def _solved(cost: np.ndarray, problem: dict[str, Any]) -> Any | None:
    """What the first method of HiGHS to reach an optimum found; None where none does.

    Where there is little room, the simplex method misses it at times, so that its "infeasible" alone isn't believed.
    The interior point method may give up on what is infeasible, with an error of its own: then that is no answer
    either, and what the simplex method said stands.
    """
    from scipy.optimize import linprog

    for method in ("highs-ds", "highs-ipm"):
        found = linprog(cost, method=method, **problem)
        if found.status == OPTIMAL:
            return found
        if found.status == UNBOUNDED:
            raise RuntimeError(f"the balancer's linear program has no least value: {found.message}")
    return None


def _wide(row: np.ndarray, width: int) -> np.ndarray:
    import numpy as np

    return np.concatenate([row, np.zeros(width - len(row))])
