"""What a reward server counts, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """How many values were at most so large, their sum and number."""

    def __init__(self, name: str, about: str, bounds: Sequence[float]) -> None:
        self.name, self.about, self.bounds = name, about, bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value in."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> list[str]:
        """The lines of its metrics."""
        lines, total = [*_head(self.name, self.about, "histogram")], 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{self.name}_sum {self.sum!r}", f"{self.name}_count {total}"]


class Metrics:
    """Counts of one server; changed in its event loop only."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()  # by status
        self.seconds = Histogram("mmrlhf_request_seconds", "Time to answer a request for scores.", SECONDS)
        self.batches = Histogram("mmrlhf_batch_answers", "Answers judged at a time.", SIZES)

    def text(self, taken: int) -> str:
        """All metrics; `taken` is the number of answers that are in the server now."""
        name = "mmrlhf_requests_total"
        lines = _head(name, "Requests for scores by status.", "counter")
        lines += [f'{name}{{status="{status}"}} {n}' for status, n in sorted(self.requests.items())]
        lines += _head("mmrlhf_queue_answers", "Answers being read, waiting or judged.", "gauge")
        lines += [f"mmrlhf_queue_answers {taken}"]
        return "\n".join([*lines, *self.seconds.lines(), *self.batches.lines(), ""])


def _head(name: str, about: str, kind: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
