"""The best checkpoint by a metric: its mean over the steps since the checkpoint before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_tools.errors import UserError


class Best:
    """Follows a metric from checkpoint to checkpoint; its state is part of each of them."""

    def __init__(self, by: str | None) -> None:
        """`by`: the metric's name, with a minus in front where the lowest is best; None: nothing is followed."""
        self.by, self.sign = (by or "").removeprefix("-"), -1.0 if (by or "").startswith("-") else 1.0
        self.step: int | None = None  # of the best checkpoint so far
        self._value = 0.0
        self._known = False
        self._sum, self._count = 0.0, 0

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes in a step's metrics.

        Raises:
            UserError: the first ones don't hold the metric.
        """
        if not self.by:
            return
        if self.by in metrics:
            self._known, self._sum, self._count = True, self._sum + metrics[self.by], self._count + 1
        elif not self._known:
            raise UserError(
                f"best_by: there is no metric {self.by!r}; there are {', '.join(sorted(metrics))}"
            )

    def checkpoint(self, step: int) -> None:
        """Ends the stretch of steps behind a checkpoint, which is the best one if the metric was never better."""
        if self._count:
            value = self.sign * self._sum / self._count
            if self.step is None or value > self._value:
                self.step, self._value = step, value
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """As JSON values; asked for right after `checkpoint`."""
        return {"step": self.step, "value": self._value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.step, self._value, self._known = state["step"], state["value"], True
