"""`mmrlhf data export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from data_tools.paths import user_path
from data_tools.printing import say

EPILOG = (
    "Examples:\n\n  mmrlhf data export data/mix --to trl -o parquet\n\n"
    "  mmrlhf data export data/mix --to trl-kto -o yes_or_no --split train --objective safety --license cc-by-4.0"
)


class Form(StrEnum):
    """What can be written."""

    TRL = "trl"
    TRL_KTO = "trl-kto"


def export(
    directory: Annotated[
        Path, typer.Argument(help="A finished data directory.", metavar="DIR", parser=user_path)
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The folder to make.", metavar="OUT", parser=user_path)
    ],
    to: Annotated[
        Form, typer.Option("--to", help="trl: a row a comparison; trl-kto: a row a yes or no.")
    ] = Form.TRL,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    objective: Annotated[str | None, typer.Option(help="Only what was judged on this objective.")] = None,
    license: Annotated[
        str | None, typer.Option(help="The licence that the data card names; without it, unknown.")
    ] = None,
) -> None:
    """Write a data directory as Parquet in TRL's format, with a data card.

    `datasets.load_dataset("OUT")` reads it, images and all. Ties are left out, and counted.
    """
    from data_tools.export import export as run

    report = run(directory, out, to.value, split, objective, license)
    say(f"{out}: {report.rows.total():,} rows")
    for key, number in sorted(report.rows.items()):
        say(f"  {'/'.join(key)}: {number:,}")
    for reason, number in sorted(report.left_out.items()):
        say(f"  left out, {reason}: {number:,}")
