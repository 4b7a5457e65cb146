"""`mmrlhf data convert`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_tools.commands.work import ExecutorName, Out, Overwrite, Resume, Workers, carry_out
from data_tools.paths import expand_path, user_path
from data_tools.printing import say

if TYPE_CHECKING:
    from data_tools.build import ConvertConfig
    from data_tools.source import Source

EPILOG = (
    "Examples:\n\n  mmrlhf data convert --from trl my_pairs.jsonl -o data/pairs\n\n"
    "  mmrlhf data convert --from auto rows.parquet -o data/rows --limit 100\n\n"
    "  mmrlhf data convert --from hh_rlhf harmless.jsonl -o data/hh --set objective=safety --workers 4"
)


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A file or folder of the data set, or its name on the hub (org/name).",
            metavar="SRC",
            parser=expand_path,
        ),
    ],
    out: Out,
    form: Annotated[
        str,
        typer.Option(
            "--from",
            help="The adapter that knows the format, your own as module:Class, or auto to have it recognised.",
            metavar="NAME",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the adapter; may be repeated.", metavar="FIELD=VALUE"),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The folder that image paths are in.", metavar="DIR", parser=user_path),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Read at most so many rows.", metavar="N")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option("--max-rejected", help="Stop if a larger share of the rows is malformed.")
    ] = 0.05,
    max_side: Annotated[
        int | None,
        typer.Option(
            "--max-side", help="Make larger images so many pixels long at their longer side.", metavar="N"
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            help="Refuse images of more pixels; JPEG photos of more are made smaller.",
            metavar="N",
        ),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option("--max-bytes", help="Refuse image files of more bytes.", metavar="N")
    ] = None,
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata", help="Keep EXIF and other data in images, with where they were taken."
        ),
    ] = False,
    executor: ExecutorName = "local",
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Convert a public data set into a data directory, record by record as it is.

    Nothing is merged, balanced or reordered. The result can be trained on, and is a source of type `shards` of later
    builds. A row is either in it, or in quarantine/ with its reason.
    """
    from data_tools.build import convert as run

    auto = form == "auto"
    if auto:
        form = _recognised(source, overrides or [])
    row: dict[str, Any] = {"images": images and str(images), "limit": limit}
    row = {"path": source, **{key: value for key, value in row.items() if value is not None}}
    changes = {"max_side": max_side, "max_pixels": max_pixels, "max_bytes": max_bytes}
    pictures = {key: value for key, value in changes.items() if value is not None}
    pictures["keep_metadata"] = keep_metadata
    settings = read_convert_config(form, row, overrides or [], max_rejected, pictures)
    if auto:
        _tell_labels(settings.source)
    carry_out(run, settings, out, executor, workers, resume, overwrite)


def read_convert_config(
    form: str,
    row: dict[str, Any],
    overrides: list[str],
    max_rejected: float,
    images: dict[str, Any] | None = None,
) -> ConvertConfig:
    """The config of a conversion: an adapter by its name, with settings and changes to them, and what is done to
    `images` (`ImageSettings`). The source is called as the adapter is, unless they say otherwise.

    Raises:
        UserError: there is no such adapter, or a setting is wrong.
    """
    from data_tools.build import ConvertConfig
    from data_tools.config import apply_overrides, parse_config

    name = re.sub(r"[^a-z0-9_-]+", "-", form.rpartition(":")[2].lower()).strip("-_")
    source = apply_overrides({"type": form, "name": name, **row}, overrides)
    settings = {"source": source, "max_rejected": max_rejected, "images": images or {}}
    return parse_config(settings, ConvertConfig, f"--from {form}")


def _recognised(source: str, overrides: list[str]) -> str:
    """The format of the very rows that are to be read: of the subset and the split that the overrides name."""
    from data_tools.adapters.recognise import recognise
    from data_tools.config import apply_overrides

    wanted = apply_overrides({"path": source}, overrides)
    subset, split = (str(wanted[key]) if wanted.get(key) is not None else None for key in ("subset", "split"))
    found = recognise(user_path(str(wanted["path"])), subset, split)
    say(f"{source}: taken for {found.name}: {found.why}")
    return found.name


def _tell_labels(source: Source) -> None:
    """Prints what the labels will be called where the rows don't say it, which a wrong guess would get wrong."""
    said = {key: value for key in ("objective", "judge") if (value := getattr(source, key, None))}
    if said and getattr(source, "judged", True):
        names = ", ".join(f"{key} {value!r}" for key, value in said.items())
        say(f"its labels are written with {names}; --set {next(iter(said))}=NAME changes that")
