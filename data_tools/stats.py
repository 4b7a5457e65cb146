"""What a data directory holds, and a length audit: how often the chosen answer is merely the longer one.

The shards are read once, a record at a time, so a set of any size takes the same memory but for the names of image-flip
pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from data_tools.errors import UserError
from data_tools.manifest import ShardInfo, read_manifest
from data_tools.shard_index import entries, where
from data_tools.shards import read_row
from data_tools.tally import JUDGED, Sizes, Tally

if TYPE_CHECKING:
    from rich.console import Group

# what a build tells of in the manifest
LEFT_OUT = ("rows", "rejected", "duplicates", "merged", "filtered", "dropped", "leaks")
MOST_JUDGES = 10  # shown in the table, the busiest first


def stats(directory: str | Path) -> dict[str, Any]:
    """Counts and audits as plain values, read record by record: see `summary`."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    tallies: dict[str, Tally] = {}
    for shard in manifest.shards:
        tally = tallies.setdefault(shard.split, Tally())
        for row, images in _rows(directory, shard):
            tally.add(row, images)
    return summary(manifest.shards, tallies, manifest.extra)


def summary(
    shards: Sequence[ShardInfo], tallies: Mapping[str, Tally], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Counts and audits from the shards, what was counted by split, and the manifest's `extra`.

    - counts: rows of split, kind, modality, source and the number of records;
    - objectives: by split and objective, the numbers of comparisons, ties, ratings, of these yes or no, and rankings;
    - labels: by split, the numbers of records that have labels of each type (see `labels.LABEL_TYPES`);
    - judges: by split, how many labels each judge gave, votes among them, the busiest first;
    - length: by split and objective, of comparisons without ties, the mean length of the chosen and the
      rejected answer in characters and the share in which the chosen one is longer, or as long;
    - images: by split and format, the number of images and their mean and largest size in bytes;
    - flip_pairs: by split, the pairs of which both records are there;
    - rows, rejected, duplicates, merged, filtered, dropped: what the build read and left out, and why;
    - leaks: records that hang together across splits which the input fixes (see `data_tools.splits`);
    - notes: merged copies that contradict each other, and what the build's remedies couldn't do, a sentence each.
    """
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for shard in shards:
        counts[shard.split, shard.kind, shard.modality, shard.source] += shard.records
    row: dict[str, Any] = {
        "records": sum(shard.records for shard in shards),
        "counts": [
            {"split": split, "kind": kind, "modality": modality, "source": source, "records": number}
            for (split, kind, modality, source), number in sorted(counts.items())
        ],
    }
    told = {split: tallies[split].told() for split in sorted(tallies)}
    for key in ("objectives", "labels", "judges", "length", "images", "flip_pairs"):
        row[key] = {split: values[key] for split, values in told.items()}
    for key in LEFT_OUT:
        row[key] = extra.get(key, {})
    row["notes"] = extra.get("notes", [])
    return row


def _rows(directory: Path, shard: ShardInfo) -> Iterator[tuple[dict[str, Any], Sizes]]:
    """Each record of a shard as JSON values, and its images."""
    path = directory / shard.name

    def fail(key: str, what: str) -> NoReturn:
        raise UserError(f"{where(path, key)}: {what}")

    with open(path, "rb") as file:
        for entry in entries(path, shard, fail):
            file.seek(entry.members[0].offset)
            data = file.read(entry.members[0].size)
            try:
                yield read_row(data), [(m.name.rpartition(".")[2], m.size) for m in entry.members[1:]]
            except UserError as error:
                fail(entry.key, str(error))


def table(row: dict[str, Any]) -> Group:
    """The result of `stats` as tables for the terminal."""
    from rich.console import Group
    from rich.table import Table

    held = Table("split", "kind", "modality", "source", "records", title="Records")
    for count in row["counts"]:
        held.add_row(*(f"{count[key]:,}" if key == "records" else count[key] for key in count))
    judged = Table(
        "split",
        "objective",
        *JUDGED,
        "chosen longer",
        "same length",
        title="Judgements",
    )
    for split, objectives in row["objectives"].items():
        for name, counts in objectives.items():
            audit = row["length"][split].get(name)
            shares = [f"{audit['chosen_longer']:.0%}", f"{audit['same_length']:.0%}"] if audit else ["", ""]
            judged.add_row(split, name, *(f"{number:,}" for number in counts.values()), *shares)
    parts: list[Any] = [held, judged, *_image_table(row["images"])]
    for split, labels in row["labels"].items():
        if labels:
            told = ", ".join(f"{number:,} with a {name}" for name, number in labels.items())
            parts.append(f"Labelled records of {split}: {told}".replace("with a binary", "with a yes or no"))
    for split, judges in row["judges"].items():
        if judges:
            busiest = [f"{name} ({number:,})" for name, number in list(judges.items())[:MOST_JUDGES]]
            more = [f"and {len(judges) - MOST_JUDGES:,} more"] if len(judges) > MOST_JUDGES else []
            parts.append(f"Judges of {split}, and their labels: {', '.join(busiest + more)}")
    flips = ", ".join(f"{split} {number:,}" for split, number in row["flip_pairs"].items())
    parts.append(f"Image-flip pairs: {flips or 'none'}")
    for source, reasons in row["rejected"].items():
        parts += [f"Rejected from {source}: {number:,} x {reason}" for reason, number in reasons.items()]
    return Group(*parts, *left_out(row))


def _image_table(splits: dict[str, dict[str, dict[str, int]]]) -> list[Any]:
    """The images as a table; none where there are none."""
    from rich.table import Table

    table = Table("split", "format", "images", "mean bytes", "largest, bytes", title="Images")
    for split, formats in splits.items():
        for name, told in formats.items():
            table.add_row(split, name, *(f"{number:,}" for number in told.values()))
    return [table] if table.row_count else []


def left_out(row: Mapping[str, Any]) -> list[str]:
    """A line for each number of copies and drops that a build tells of, by the keys of `LEFT_OUT`, and its notes."""
    lines = [f"Copies dropped from {source}: {number:,}" for source, number in row["duplicates"].items()]
    lines += [
        f"Copies merged, with their judgements, from {source}: {number:,}"
        for source, number in row["merged"].items()
    ]
    lines += [f"Filtered from {name}: {number:,}" for name, number in row["filtered"].items()]
    lines += [f"Dropped for balance from {name}: {number:,}" for name, number in row["dropped"].items()]
    lines += [
        f"Leak: {number:,} records share an image, question or group across {splits}, which the input fixes"
        for splits, number in row["leaks"].items()
    ]
    return lines + [f"Note: {note}" for note in row.get("notes", [])]
