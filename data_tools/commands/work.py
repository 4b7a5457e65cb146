"""What the commands share that work through data: their options, progress bars, and how they tell what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_tools.paths import user_path
from data_tools.printing import PlainColumn, PlainConsole, say

if TYPE_CHECKING:
    from data_tools.build import BuildReport
    from data_tools.build.config import ConvertConfig, DataConfig
    from data_tools.source import Source

Out = Annotated[
    Path, typer.Option("-o", "--out", help="The folder to make.", metavar="DIR", parser=user_path)
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a data set of another config or input, and an unfinished one."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run of this was cut off.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="How much is done at once; a task a core by default.", metavar="N"),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor", help="Where: local (processes of this machine) or ray (a cluster).", metavar="KIND"
    ),
]


@contextmanager
def bars(names: Sequence[str] = ()) -> Iterator[Callable[[str, int, int | None], None]]:
    """Progress bars on stderr, one of each name that was told of; gives what is to be called with a name, how much is
    done, and of how much, where known."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (PlainColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = PlainConsole(stderr=True)
    # into a file or a pipe they would write an empty line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        tasks = {name: shown.add_task(name, total=None) for name in names}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield show


def carry_out(
    run: Callable[..., BuildReport],
    settings: DataConfig | ConvertConfig,
    out: Path,
    executor: str,
    workers: int | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Runs a build or a conversion under progress bars, and tells what it did."""
    from data_tools.executor import make_executor

    print_passed_over(settings.sources)
    with bars([source.name for source in settings.sources]) as show:
        report = run(
            settings,
            out,
            progress=show,
            overwrite=overwrite,
            executor=make_executor(executor, workers),
            resume=resume,
        )
    print_report(report)


def print_passed_over(sources: Sequence[Source]) -> None:
    """Tells of files in the sources' folders that may hold rows but aren't read."""
    for source in sources:
        if names := source.passed_over():
            more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
            say(f"{source.name}: in its folder, not read: {', '.join(names[:5])}{more}", err=True)


def print_report(report: BuildReport) -> None:
    """Tells what a build or a conversion did, and that nothing was lost."""
    from data_tools.stats import left_out

    what = "already complete, kept" if report.existing else "built"
    say(f"{report.directory}: {what}, {report.records:,} records")
    if report.uncompared:
        say(
            f"  not compared with what it was made from: {', '.join(report.uncompared)}; after a change there, add "
            "--overwrite"
        )
    for name, number in report.counts.items():
        say(f"  {name}: {number:,}")
    for source, reasons in report.rejected.items():
        for reason, number in reasons.items():
            say(f"  rejected from {source}: {number:,} x {reason}")
    for line in left_out(vars(report)):
        say(f"  {line[0].lower()}{line[1:]}")
    for line in sums(report):
        say(f"  {line}")
    if report.balance is not None:
        _print_balance(report.balance)
    if report.audit is not None:
        _print_audit(report.audit)


def _print_balance(row: dict[str, Any]) -> None:
    from data_tools.balance.solution import table

    PlainConsole().print(table(row))
    for line in repeats(row):
        say(line)


def repeats(row: dict[str, Any]) -> list[str]:
    """A line for each source of a balancer's plan that an epoch of the mixture shows more than once."""
    return [
        f"{name} repeats: an epoch shows its {source['kept']:,} records {source['repeat']:.2f} times "
        f"({source['drawn']:,} in all)"
        for name, source in row["sources"].items()
        if source["repeat"] > 1
    ]


def _print_audit(folder: Path) -> None:
    """The main numbers of a build's audit, before and after."""
    import json

    from data_tools.audits.page import summary
    from data_tools.audits.run import Report

    row = json.loads((folder / "audit.json").read_bytes())
    PlainConsole().print(summary(Report.from_json(row["compared_with"]), Report.from_json(row)))
    say(f"Audit before and after: {folder / 'audit.html'}")


def sums(report: BuildReport) -> list[str]:
    """In + quarantined = read of the rows of each source and of all; and what became of the records."""
    lines = []
    every = {key: sum(rows[key] for rows in report.rows.values()) for key in ("in", "quarantined", "read")}
    named = list(report.rows.items())
    for name, rows in [*named, *([("all", every)] if len(named) > 1 else [])]:
        told = f"{rows['in']:,} in + {rows['quarantined']:,} quarantined = {rows['read']:,} read"
        lines.append(f"rows of {name}: {told}")
    if report.rows:
        gone = {
            key: sum(getattr(report, key).values()) for key in ("duplicates", "merged", "filtered", "dropped")
        }
        told = " + ".join(f"{number:,} {key}" for key, number in {"kept": report.records, **gone}.items())
        lines.append(f"records: {told} = {report.made:,} made of these rows")
    return lines
