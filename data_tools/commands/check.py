"""`mmrlhf data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_tools.paths import user_path
from data_tools.printing import PlainColumn, PlainConsole, say

EPILOG = (
    "Examples:\n\n  mmrlhf data check data/mix\n\n"
    "  mmrlhf data check data/mix --decode --workers 8 && echo whole"
)


def check(
    directory: Annotated[
        Path, typer.Argument(help="A finished data directory.", metavar="DIR", parser=user_path)
    ],
    decode: Annotated[
        bool, typer.Option("--decode", help="See that every image can be decoded, too.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read; without it as many as there are cores.", metavar="N"),
    ] = None,
) -> None:
    """See whether a data directory is whole: manifest, shards, records and images, by their hashes.

    Everything that is wrong is listed, by shard and key; the exit code is 1 where anything is.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from data_tools.check import check as run

    columns = (PlainColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = PlainConsole(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("checking", total=None)
        report = run(
            directory,
            decode,
            workers,
            lambda done, total: bars.update(task, completed=done, total=total),
        )
    for problem in report.problems:
        say(f"{directory / problem.file}{str(problem)[len(problem.file) :]}")
    if report.others:
        say(f"Not part of the data set, and not looked at: {', '.join(report.others)}")
    number = len(report.problems)
    say(
        f"{directory}: {report.shards:,} shards, {report.records:,} records, {report.images:,} images, "
        f"{report.bytes:,} bytes: {f'{number:,} problems' if number > 1 else '1 problem' if number else 'whole'}"
    )
    if number:
        raise typer.Exit(1)
