"""The command line of the data tools: `mmrlhf data ...`; newer commands are in `data_tools.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_tools.commands import check, export, preview

if TYPE_CHECKING:
    from data_tools.build import BuildReport, DataConfig

app = typer.Typer(
    name="data",
    help="Make data sets of preferences, demonstrations and prompts, and look into them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command(
    epilog="Examples:\n\n  mmrlhf data build configs/data.yaml -o data/mix\n\n"
    "  mmrlhf data build configs/data.yaml -o data/small --set sources.0.count=100"
)
def build(
    config: Annotated[
        Path, typer.Argument(help="A data config, or a run config with a data section.", metavar="CONFIG")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The folder to make.", metavar="DIR")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the file; may be repeated.", metavar="A.B=VALUE"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set of another config or input.")
    ] = False,
) -> None:
    """Build a data directory from a config: shards, manifest, rejected rows and statistics.

    A finished directory of the same config and input files is kept. Nothing appears under its name until it is
    complete.
    """
    settings = read_data_config(config, overrides or [])
    _print_report(_build_with_bars(settings, out, overwrite))


@app.command(
    epilog="Examples:\n\n  mmrlhf data stats data/mix\n\n  mmrlhf data stats data/mix --json | jq .length"
)
def stats(
    directory: Annotated[Path, typer.Argument(help="A finished data directory.", metavar="DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count what a data directory holds, and audit whether longer answers are the chosen ones."""
    import json

    from data_tools.stats import stats as compute
    from data_tools.stats import table

    row = compute(directory)
    if as_json:
        typer.echo(json.dumps(row, indent=1))
    else:
        from rich.console import Console

        Console().print(table(row))


app.command(epilog=check.EPILOG)(check.check)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=preview.EPILOG)(preview.preview)


def read_data_config(path: Path, overrides: list[str]) -> DataConfig:
    """The data config in a file: the whole file, or the `data` section of a run config.

    `overrides` are paths from the top of the file. Raises `UserError` with every mistake found.
    """
    from data_tools.build import DataConfig
    from data_tools.config import apply_overrides, parse_config, read_yaml
    from data_tools.errors import UserError

    row = apply_overrides(read_yaml(path), overrides)
    if "data" not in row:
        return parse_config(row, DataConfig, str(path))
    if not isinstance(row["data"], dict):
        raise UserError(f"{path}: data: is no section with sources")
    return parse_config(row["data"], DataConfig, f"{path}: data")


def _build_with_bars(config: DataConfig, out: Path, overwrite: bool) -> BuildReport:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from data_tools.build import build as run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {source.name: bars.add_task(source.name, total=None) for source in config.sources}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        return run(config, out, progress=show, overwrite=overwrite)


def _print_report(report: BuildReport) -> None:
    from data_tools.stats import left_out

    what = "already complete, kept" if report.existing else "built"
    typer.echo(f"{report.directory}: {what}, {report.records:,} records")
    for name, number in report.counts.items():
        typer.echo(f"  {name}: {number:,}")
    for source, reasons in report.rejected.items():
        for reason, number in reasons.items():
            typer.echo(f"  rejected from {source}: {number:,} x {reason}")
    for line in left_out(vars(report)):
        typer.echo(f"  {line[0].lower()}{line[1:]}")


def main(arguments: list[str] | None = None) -> None:
    """The data tools on their own (`python -m data_tools.cli`): a user's mistake is a message and exit code 2.

    Within `mmrlhf data`, mmrlhf's own command line does this.
    """
    from data_tools.errors import UserError

    try:
        app(arguments)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
