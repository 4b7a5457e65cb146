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

    def before(self, steps: int, every: int) -> str:
        """What to say where `steps` make no more than one checkpoint of `every`; empty where they make more."""
        if not self.by or steps > every:
            return ""
        return (
            f"best_by has one checkpoint to choose from; set engine.checkpoint_every below the {steps} steps"
        )

    def outcome(self) -> str:
        """What to say of the choice at the end; empty where no metric was to choose."""
        if not self.by:
            return ""
        if self.step is None:
            return (
                f"no step had the metric {self.by}, so best_by chooses nothing; the model is the last step's"
            )
        return f"the best by {self.asked} is step {self.step}"

    def go_on(
        self, state: dict[str, Any], rows: Iterable[Mapping[str, float]], folder: Path, every: int
    ) -> None:
        """Takes back what `state_dict` gave, or looks for the best anew (`replay`) where another metric chose then."""
        if state.get("by", self.asked) == self.asked:
            self.load_state_dict(state, folder)
        else:
            self.replay(rows, folder, every)

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
