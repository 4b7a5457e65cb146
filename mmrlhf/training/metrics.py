"""Metrics of a step: means over micro-batches and processes, written as JSON lines and to TensorBoard.

`metrics.jsonl` holds only what the seed and the data decide, so that a resumed run writes the same file; seconds go
to `timings.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.atomic import sync_file, write_text
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
    """Appends a line a step; on resume drops the lines behind the checkpoint, whose `records` the files are held to."""

    def __init__(
        self, folder: Path, start: int, tensorboard: bool, records: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.files = {name: folder / f"{name}.jsonl" for name in ("metrics", "timings")}
        self.restored = [  # files that weren't as the run had written them
            path for path in self.files.values() if _go_back(path, start, (records or {}).get(path.name))
        ]
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

    def records(self) -> dict[str, str]:
        """What the files hold, by their names; on the disk then."""
        for path in self.files.values():
            sync_file(path)
        return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in self.files.values()}

    def close(self) -> None:
        """Writes out what TensorBoard still holds."""
        if self.board:
            self.board.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics file, one mapping a step; a half-written last line is left out."""
    return metrics_of(path.read_text() if path.exists() else "")


def metrics_of(text: str) -> list[dict[str, float]]:
    """As `read_metrics`, of a text."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _go_back(path: Path, step: int, recorded: str | None) -> bool:
    """Leaves a file with the lines up to a step: those that were recorded then, where that is known. Whether it had
    others."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if recorded is None:
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        recorded = "".join(json.dumps(row) + "\n" for row in rows)
    write_text(path, recorded)
    return not text.startswith(recorded)
