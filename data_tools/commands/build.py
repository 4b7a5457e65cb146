"""`mmrlhf data build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_tools.commands.work import ExecutorName, Out, Overwrite, Resume, Workers, carry_out
from data_tools.paths import user_path

if TYPE_CHECKING:
    from data_tools.build import DataConfig

EPILOG = (
    "Examples:\n\n  mmrlhf data build configs/data.yaml -o data/mix\n\n"
    "  mmrlhf data build configs/data.yaml -o data/small --set sources.0.count=100\n\n"
    "  mmrlhf data build configs/data.yaml -o data/mix --workers 8 --resume"
)


def build(
    config: Annotated[
        Path,
        typer.Argument(
            help="A data config, or a run config with a data section.", metavar="CONFIG", parser=user_path
        ),
    ],
    out: Out,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the file; may be repeated.", metavar="A.B=VALUE"),
    ] = None,
    executor: ExecutorName = "local",
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Build a data directory from a config: shards, manifest, statistics, and a quarantine of the rejected rows.

    A finished directory of the same config and input files is kept. Nothing appears under its name until it is
    complete; a build that was cut off goes on with --resume, and gives the same bytes.
    """
    from data_tools.build import build as run

    settings = read_data_config(config, overrides or [])
    carry_out(run, settings, out, executor, workers, resume, overwrite)


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
