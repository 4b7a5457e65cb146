"""A data directory as Parquet files in TRL's format, with a data card: what other programs, and the hub, read.

One row is one judgement: a comparison, which TRL calls a preference, or a yes or no, which it calls an unpaired one.
Left out on purpose: scalar ratings, corrections, critiques and votes, for which that format has no place; they are
counted, and the card says so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data_tools.atomic import new_folder, write_text
from data_tools.errors import UserError
from data_tools.images import bare_bytes, extension
from data_tools.manifest import Manifest, read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records

if TYPE_CHECKING:
    from pyarrow import Schema

Form = Literal["trl", "trl-kto"]
FORMS: tuple[Form, ...] = ("trl", "trl-kto")
GROUP_ROWS, GROUP_BYTES = 1000, 32 * 2**20  # of a row group: what a reader must take at once
MESSAGES = ("prompt", "chosen", "rejected", "completion")
FILE_BYTES = 500 * 2**20

# the columns as `datasets` describes them, which tells it that the images are images
_TEXT = {"dtype": "string", "_type": "Value"}
_MESSAGES = [{"role": _TEXT, "content": [{"type": _TEXT, "text": _TEXT}]}]
_ANSWERS: dict[Form, dict[str, Any]] = {
    "trl": {"chosen": _MESSAGES, "rejected": _MESSAGES},
    "trl-kto": {"completion": _MESSAGES, "label": {"dtype": "bool", "_type": "Value"}},
}

Row = dict[str, Any]


@dataclass
class ExportReport:
    """What was written: the number of rows by split, source, modality and objective; and what was left out, by why."""

    out: Path
    form: Form
    rows: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


def export(
    directory: str | Path,
    out: str | Path,
    form: Form = "trl",
    split: str | None = None,
    objective: str | None = None,
    license: str | None = None,
) -> ExportReport:
    """Writes `out/data/SPLIT/*.parquet` and a data card, `out/README.md`; the folder appears whole or not at all.

    `split` and `objective` choose what is written; None writes all. `license` is what the card says; None says that it
    isn't known.

    Raises:
        UserError: the data can't be read, there is nothing to write, or `out` exists already.
    """
    from data_tools.data_card import data_card

    directory, out = Path(directory), Path(out)
    manifest = read_manifest(directory)
    report = ExportReport(out, form)
    folders = _folders(directory, manifest, split)
    with new_folder(out) as folder:
        for name, where in folders.items():
            _write(_rows(directory, name, objective, report), folder / "data" / where, form)
        if not report.rows:
            raise UserError(f"{directory}: {_nothing(manifest, form, split, objective)}")
        written = {where: name for name, where in folders.items() if (folder / "data" / where).exists()}
        write_text(folder / "README.md", data_card(out.name, manifest, report, written, license))
    return report


def _folders(directory: Path, manifest: Manifest, split: str | None) -> dict[str, str]:
    """The folder of each split: its name as `datasets` allows it, letters, digits and _."""
    names = sorted({shard.split for shard in manifest.shards})
    if split is not None and split not in names:
        raise UserError(f"{directory}: has no split {split!r}; it has: {', '.join(names)}")
    folders = {name: re.sub(r"\W", "_", name) for name in names if split in (None, name)}
    if len(set(folders.values())) < len(folders):
        raise UserError(
            f"{directory}: splits whose names differ only by signs can't be exported together: {', '.join(folders)}; "
            "choose one with --split"
        )
    return folders


def _nothing(manifest: Manifest, form: Form, split: str | None, objective: str | None) -> str:
    """Why nothing could be written, in words."""
    shards = [shard for shard in manifest.shards if split in (None, shard.split)]
    found = [
        {**shard.objectives, **shard.rankings} if form == "trl" else shard.binaries or {} for shard in shards
    ]
    known = ", ".join(sorted({name for names in found for name in names})) or "none"
    what = "comparison but ties" if form == "trl" else "yes or no"
    return f"holds no {what}{f' on {objective!r}' if objective else ''}; objectives with such: {known}"


def _rows(directory: Path, split: str, objective: str | None, report: ExportReport) -> Iterator[Row]:
    """The rows of a split, counted in the report with what is left out."""
    make = preference_rows if report.form == "trl" else binary_rows
    for record in open_records(directory, split):
        before = report.rows.total()
        for row in make(record, report.left_out):
            if objective is not None and row["objective"] != objective:
                report.left_out["of another objective"] += 1
                continue
            report.rows[split, record.source, record.modality, row["objective"]] += 1
            yield row
        if report.rows.total() == before:
            report.left_out["records that gave no row"] += 1


def preference_rows(record: PreferenceRecord, left_out: Counter[str]) -> Iterator[Row]:
    """A row for each comparison, and each two of a ranking's responses, that isn't a tie; counts what it leaves out."""
    for comparison in record.pairs():
        better, worse = (record.responses[place].text for place in (comparison.better, comparison.worse))
        if comparison.tie:
            left_out["ties"] += 1
        elif better == worse:
            left_out["comparisons of an answer with itself"] += 1
        else:
            yield {
                **_shared(record, comparison.objective),
                "chosen": _answer(better),
                "rejected": _answer(worse),
            }
    left_out.update({"ratings": len(record.ratings)} if record.ratings else {})


def binary_rows(record: PreferenceRecord, left_out: Counter[str]) -> Iterator[Row]:
    """A row for each yes or no; counts what it leaves out."""
    for rating in record.ratings:
        if rating.kind == "binary":
            yield {
                **_shared(record, rating.objective),
                "completion": _answer(record.responses[rating.response].text),
                "label": rating.value == rating.high,
            }
        else:
            left_out["ratings on a scale"] += 1
    pairs = sum(1 for _ in record.pairs())
    left_out.update({"comparisons": pairs} if pairs else {})


def _shared(record: PreferenceRecord, objective: str) -> Row:
    return {
        "prompt": [
            {
                "role": message.role,
                "content": [
                    {"type": "image" if part.text is None else "text", "text": part.text}
                    for part in message.parts
                ],
            }
            for message in record.prompt
        ],
        "images": [
            {
                "bytes": bare_bytes(image.data or b""),
                "path": f"{image.sha256[:16]}.{extension(image.data or b'')}",
            }
            for image in record.images
        ],
        "objective": objective,
        "source": record.source,
        "id": record.id,
    }


def _answer(text: str) -> list[Row]:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def schema(form: Form) -> Schema:
    """The columns, with what `datasets` needs to know of them."""
    import pyarrow as pa

    messages = pa.list_(
        pa.struct(
            {
                "role": pa.string(),
                "content": pa.list_(pa.struct({"type": pa.string(), "text": pa.string()})),
            }
        )
    )
    images = pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    answers = {name: pa.bool_() if name == "label" else messages for name in _ANSWERS[form]}
    texts = dict.fromkeys(("objective", "source", "id"), pa.string())
    features = {
        "prompt": _MESSAGES,
        **_ANSWERS[form],
        "images": [{"_type": "Image"}],
        **dict.fromkeys(texts, _TEXT),
    }
    return pa.schema(
        {"prompt": messages, **answers, "images": images, **texts},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _write(rows: Iterable[Row], folder: Path, form: Form) -> None:
    """The rows as files of about `FILE_BYTES`; no file where there are no rows."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    columns = schema(form)
    writer: ParquetWriter | None = None
    number = size = 0
    try:
        for group in _groups(rows):
            if writer is None:
                folder.mkdir(parents=True, exist_ok=True)
                writer = ParquetWriter(
                    folder / f"{number:05d}.parquet", columns, use_dictionary=["objective", "source"]
                )
                number, size = number + 1, 0
            writer.write_table(pa.Table.from_pylist(group, schema=columns))
            size += sum(map(_bytes, group))
            if size >= FILE_BYTES:
                writer.close()
                writer = None
    finally:
        if writer is not None:
            writer.close()


def _groups(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    group, size = list[Row](), 0
    for row in rows:
        group.append(row)
        size += _bytes(row)
        if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _bytes(row: Row) -> int:
    """About how many bytes a row takes, before they are compressed."""
    messages = [message for name in MESSAGES if name in row for message in row[name]]
    texts = sum(len(part["text"] or "") for message in messages for part in message["content"])
    return texts + sum(len(image["bytes"]) for image in row["images"])
