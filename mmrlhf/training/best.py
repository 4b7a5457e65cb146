"""The best checkpoint by a metric: its mean over the steps since the checkpoint before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmrlhf.training.checkpoint import has_step


class Best:
    """Follows a metric from checkpoint to checkpoint; its state is part of each of them."""

    def __init__(self, by: str | None) -> None:
        """`by`: the metric's name, with a minus in front where the lowest is best; None: nothing is followed."""
        self.asked = by
        self.by, self.sign = (by or "").removeprefix("-"), -1.0 if (by or "").startswith("-") else 1.0
        self.step: int | None = None  # of the best checkpoint so far
        self._value = 0.0
        self._sum, self._count = 0.0, 0

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes in a step's metrics; some hold the metric only now and then."""
        if math.isfinite(value := metrics.get(self.by, math.nan)):
            self._sum, self._count = self._sum + value, self._count + 1

    def checkpoint(self, step: int) -> None:
        """Ends the stretch of steps behind a checkpoint, which is the best one if the metric was never better."""
        if self._count:
            value = self.sign * self._sum / self._count
            if self.step is None or value > self._value:
                self.step, self._value = step, value
        self._sum, self._count = 0.0, 0

    def replay(self, rows: Iterable[Mapping[str, float]], folder: Path, every: int) -> None:
        """Follows the metric over steps that are done, each with its number under `step`, from one checkpoint of
        `every` steps to the next: of these, the best that is still in the folder."""
        for row in rows:
            self.add(row)
            step = int(row["step"])
            if step % every == 0:
                if has_step(folder, step):
                    self.checkpoint(step)
                else:
                    self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "by": self.asked,
            "step": self.step,
            "value": self._value,
            "sum": self._sum,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any], folder: Path) -> None:
        """Takes back what `state_dict` gave; without a best one where its checkpoint is no longer in the folder."""
        self._sum, self._count = state["sum"], state["count"]
        if state["step"] is not None and has_step(folder, state["step"]):
            self.step, self._value = state["step"], state["value"]
