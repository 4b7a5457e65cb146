"""The data card of an exported set: a README.md in the form that the hub reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from data_tools.manifest import Manifest
from data_tools.stats import LEFT_OUT, left_out

if TYPE_CHECKING:
    from data_tools.export import ExportReport

_COLUMNS = {
    "trl": "`prompt`, `chosen` and `rejected` (lists of messages) and `images`: TRL's vision preference format, one "
    "row a comparison; a ranking gives one for every two of its answers that aren't tied",
    "trl-kto": "`prompt` and `completion` (lists of messages), `label` (true or false) and `images`: TRL's unpaired "
    "preference format, one row a yes or no",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def data_card(
    name: str, manifest: Manifest, report: ExportReport, splits: dict[str, str], license: str | None
) -> str:
    """The card as Markdown; `splits` are the folders below `data` and the splits' own names."""
    total = report.rows.total()
    head: dict[str, Any] = {
        "pretty_name": name,
        "license": license or "unknown",
        "size_categories": [next((text for most, text in _SIZES if total < most), "n>1M")],
        "tags": ["preference", "multimodal", "trl"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": folder, "path": f"data/{folder}/*.parquet"} for folder in sorted(splits)
                ],
            }
        ],
    }
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {name}",
        "",
        f"{total:,} judgements of answers to prompts with images and of text alone, made with mmrlhf.",
        "",
        f"Columns: {_COLUMNS[report.form]}. A row of text alone has no images. `objective` is what was judged, "
        "`source` and `id` say which record a row was made from.",
        "",
        "## What it holds",
        "",
        "| split | source | modality | objective | rows |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(map(_cell, key))} | {number:,} |" for key, number in sorted(report.rows.items())),
        "",
        "## Where it comes from",
        "",
        *_sources(manifest, report),
        "",
        "## What was left out",
        "",
        *_filtered(manifest, report),
        "",
        "## Licence",
        "",
        license
        or "Not known: whoever exported this set named none. Each source has terms of its own; look them up before "
        "you share the set or what was trained on it.",
        "",
    ]
    return "\n".join(lines)


def _sources(manifest: Manifest, report: ExportReport) -> Iterator[str]:
    """A line for each source that gave a row. Of files only the names: paths tell of somebody's machine."""
    files: dict[str, list[str]] = {}
    for row in manifest.extra.get("files", []):
        files.setdefault(row["source"], []).append(
            f"{_cell(PurePath(row['path']).name)} (sha256 {row['sha256'][:16]})"
        )
    for source in sorted({source for _, source, _, _ in report.rows}):
        yield f"- {_cell(source)}: " + (
            f"read from {', '.join(files[source])}"
            if source in files
            else "made by a recipe, not read from files"
        )


def _filtered(manifest: Manifest, report: ExportReport) -> Iterator[str]:
    row = {key: manifest.extra.get(key, {}) for key in LEFT_OUT}
    lines = [
        f"Rejected from {source}: {number:,} x {reason}"
        for source, reasons in row["rejected"].items()
        for reason, number in reasons.items()
    ]
    lines += left_out(row)
    lines += [f"By the export, {reason}: {number:,}" for reason, number in sorted(report.left_out.items())]
    yield from (f"- {_cell(line)}" for line in lines)
    if not lines:
        yield "Nothing."


def _cell(text: str) -> str:
    """Text that stays in its cell and line of Markdown, and is no markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "|*_`[]<>\\" else sign for sign in flat)
