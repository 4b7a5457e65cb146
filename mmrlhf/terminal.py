"""What a person sees while a run goes on: one progress bar a stage, or plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from data_tools.printing import PlainColumn, PlainConsole

console = PlainConsole(stderr=True)
PLAIN_EVERY_S = 15.0


class Bar(Protocol):
    """Takes in how far a stage is."""

    def __call__(self, done: int, note: str = "") -> None: ...


@contextlib.contextmanager
def progress(title: str, total: int, quiet: bool = False) -> Iterator[Bar]:
    """A bar over `total` steps; call what it gives with the steps done and a short note."""
    if quiet:
        yield lambda done, note="": None
    elif console.is_terminal:
        columns = (
            SpinnerColumn(),
            PlainColumn("{task.description:<28}", "bold"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            PlainColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(title, total=total, note="")
            yield lambda done, note="": bars.update(task, completed=done, note=note)
    else:
        yield _plain(title, total)


def _plain(title: str, total: int) -> Bar:
    began, last = time.monotonic(), 0.0

    def show(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= PLAIN_EVERY_S:
            last = now
            console.print(f"{title}: {done}/{total}, {now - began:.0f} s {note}")

    return show
