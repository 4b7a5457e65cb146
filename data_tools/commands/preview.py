"""`mmrlhf data preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_tools.paths import user_path
from data_tools.printing import say

EPILOG = (
    "Examples:\n\n  mmrlhf data preview data/mix\n\n"
    "  mmrlhf data preview data/mix -o pages/safety.html --samples 200 --split train --source beavertails"
)


def preview(
    directory: Annotated[
        Path, typer.Argument(help="A finished data directory.", metavar="DIR", parser=user_path)
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The page to write.", metavar="PAGE", parser=user_path)
    ] = Path("preview.html"),
    samples: Annotated[int, typer.Option(min=1, help="How many records to show.")] = 50,
    split: Annotated[str | None, typer.Option(help="Only of this split.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    seed: Annotated[int, typer.Option(help="Another number draws other records.")] = 0,
) -> None:
    """Write a page of samples: images, prompts, answers side by side, and all that was judged about them.

    The page is one file that needs no network, to look at or send around.
    """
    from data_tools.preview import Choice, write_preview

    number = write_preview(directory, out, Choice(samples, split, source, seed))
    say(f"{out}: {number:,} samples")
