"""Rounds of trainers that take turns: which of them count, and what is quoted of them. Needs no torch."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

QUIET = 0.7  # of the machine's usual speed


def quiet_rounds(gflops: Sequence[float]) -> list[int]:
    """The rounds that count: the machine, whose speed was taken before each round and after the last, was not much
    slower than usual on either side of them. All of them where no round is left."""
    usual = statistics.median(gflops)
    slower = [min(pair) / usual < QUIET for pair in itertools.pairwise(gflops)]
    return [i for i, slow in enumerate(slower) if not slow] or list(range(len(slower)))


def median(values: Sequence[float]) -> float:
    """The median, to four digits behind the point."""
    return round(statistics.median(values), 4)


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns of text, the first of them the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )
