"""Metrics of a step: means over micro-batches and processes, written as JSON lines and to TensorBoard.

`metrics.jsonl` holds only what the seed and the data decide, so that a resumed run writes the same file; seconds go
to `timings.jsonl`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmrlhf.training.processes import everyones
from mmrlhf.types import Sums


class Means:
    """Weighted means that gather sums as they come."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, sums: Sums) -> None:
        """Takes in name -> (sum, weight)."""
        for name, (total, weight) in sums.items():
            slot = self._sums.setdefault(name, [0.0, 0.0])
            slot[0] += float(total)
            slot[1] += float(weight)

    def means(self, accelerator: Any) -> dict[str, float]:
        """The means over all processes; names without any weight are left out. Every process must call it."""
        sums: dict[str, list[float]] = {}
        # a process may have met other names than another (no image in its share)
        for own in everyones(accelerator, self._sums):
            for name, (total, weight) in own.items():
                slot = sums.setdefault(name, [0.0, 0.0])
                slot[0] += total
                slot[1] += weight
        return {name: total / weight for name, (total, weight) in sorted(sums.items()) if weight}


class MetricsWriter:
    """Appends a line a step; on resume drops the lines behind the checkpoint."""

    def __init__(self, folder: Path, start: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.files = {name: folder / f"{name}.jsonl" for name in ("metrics", "timings")}
        for path in self.files.values():
            _keep_until(path, start)
        self.board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, step: int, metrics: dict[str, float], seconds: float) -> None:
        """One line for the step (counted from 1)."""
        self._append("metrics", {"step": step, **metrics})
        self._append("timings", {"step": step, "seconds": round(seconds, 4)})
        if self.board:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with self.files[name].open("a") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Writes out what TensorBoard still holds."""
        if self.board:
            self.board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics file, one mapping a step; a half-written last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _keep_until(path: Path, step: int) -> None:
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.replace(path)
