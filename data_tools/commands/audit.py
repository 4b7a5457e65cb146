"""`mmrlhf data audit`: what a data directory teaches without the image, and what is amiss with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from data_tools.commands.work import bars
from data_tools.paths import user_path
from data_tools.printing import PlainConsole, say, styled

if TYPE_CHECKING:
    from data_tools.audits.base import Options
    from data_tools.audits.run import Report

EPILOG = (
    "Conditions: [SPLIT.][KIND.][OBJECTIVE.][SOURCE.]METRIC[.low|.high] and one of > >= < <=, such as "
    "image-text.blind_accuracy.low>0.5; without a split every split is looked at. METRIC is one of {metrics}.\n\n"
    "Examples:\n\n  mmrlhf data audit data/mix\n\n"
    "  mmrlhf data audit data/mix --only blind,length --fail-on 'image-text.blind_accuracy>0.6'\n\n"
    "  mmrlhf data audit data/balanced --compare data/unbalanced -o audits/balanced"
)


class AuditCommand(TyperCommand):
    """Names the metrics at the end of its help, which asks the audits only when help is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from data_tools.audits.run import known_metrics

        self.epilog = EPILOG.format(metrics=", ".join(sorted(known_metrics())))
        super().format_help(ctx, formatter)


def audit(
    directory: Annotated[
        Path, typer.Argument(help="A finished data directory.", metavar="DIR", parser=user_path)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Where audit.json and audit.html go; DIR/audit if not said, DIR/audit-again beside a build's own.",
            metavar="FOLDER",
            parser=user_path,
        ),
    ] = None,
    splits: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be repeated.", metavar="SPLIT")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", help="Exit with 1 where this holds; may be repeated.", metavar="CONDITION"),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Only these audits, by commas.", metavar="NAME,...")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare",
            help="Audit this data directory too, and show it beside.",
            metavar="DIR",
            parser=user_path,
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            help="A benchmark file that the data should share nothing with; may be repeated.",
            metavar="FILE",
            parser=user_path,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of folds, samples and intervals.")] = 0,
    max_pairs: Annotated[
        int,
        typer.Option(
            "--max-pairs", min=100, help="Look at most at so many pairs of a split, source and kind."
        ),
    ] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print audit.json instead of the table.")] = False,
) -> None:
    """Measure what a data directory teaches without the image, and what is amiss with it; write a report.

    Exit codes: 0 all is well, 1 a condition of --fail-on holds, 2 a mistake in the command or the data.
    """
    from data_tools.audits.base import Options
    from data_tools.audits.page import write_reports
    from data_tools.audits.thresholds import broken, parse_threshold
    from data_tools.errors import UserError
    from data_tools.lock import locked

    names = [name.strip() for name in only.split(",") if name.strip()] if only is not None else []
    if against and names and "contamination" not in names:
        raise UserError(
            f"--against is for the audit contamination, which --only {only} leaves out; add it there"
        )
    thresholds = [parse_threshold(text, names) for text in fail_on or []]
    options = Options(seed, max_pairs, tuple(against or ()))
    folder = out or free_folder(directory)
    with locked(folder, "auditing into"):
        report = _run(directory, splits or [], names, options)
        other = _run(compare, [], names, options) if compare else None
        failed = [line for threshold in thresholds for line in broken(threshold, report.findings)]
        json_file, html_file = write_reports(report, folder, other, failed)
    if as_json:
        say(json_file.read_text(encoding="utf-8").rstrip("\n"))
    else:
        _show(report, other)
        say(f"Report: {html_file}")
    for line in failed:
        say(f"failed: {line}", err=True)
    if failed:
        raise typer.Exit(1)


def free_folder(directory: Path) -> Path:
    """Where a report goes that is told no place: `audit` in the data directory, unless its build has put one there."""
    from data_tools.manifest import read_manifest

    name = "audit"
    return directory / (f"{name}-again" if read_manifest(directory).extra.get("audit") == name else name)


def _run(directory: Path, splits: list[str], only: list[str], options: Options) -> Report:
    from data_tools.audits.run import run_audits

    with bars() as show:
        return run_audits(
            directory,
            splits,
            only,
            options,
            lambda what, done, total: show(f"{directory.name}: {what}", done, total),
        )


def _show(report: Report, other: Report | None) -> None:
    from data_tools.audits.page import summary

    console = PlainConsole()
    console.print(summary(report, other))
    for result in report.results:
        if not result.findings:
            console.print(styled(f"{result.title}.", "bold"), result.says)
        for note in result.notes:
            console.print(styled(f"{result.title}.", "bold"), f"{note.rstrip('.')}.")
