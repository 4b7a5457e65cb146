"""What a data directory holds, and a length audit: how often the chosen answer is merely the longer one.

The shards are read once, a record at a time, so a set of any size takes the same memory but for eight bytes a record
of an image-flip pair.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from data_tools.errors import UserError
from data_tools.labels import LABEL_TYPES
from data_tools.manifest import ShardInfo, read_manifest
from data_tools.shard_index import entries, where
from data_tools.shards import read_row
from data_tools.tar import Member

if TYPE_CHECKING:
    from rich.console import Group

LEFT_OUT = ("rejected", "duplicates", "merged", "dropped", "leaks")  # what a build tells of in the manifest
JUDGED = ("comparisons", "ties", "ratings", "yes or no", "rankings")
MOST_JUDGES = 10  # shown in the table, the busiest first


def stats(directory: str | Path) -> dict[str, Any]:
    """Counts and audits as plain values.

    - counts: rows of split, kind, modality, source and the number of records;
    - objectives: by split and objective, the numbers of comparisons, ties, ratings, of these yes or no, and rankings;
    - labels: by split, the numbers of records that have labels of each type (see `labels.LABEL_TYPES`);
    - judges: by split, how many labels each judge gave, votes among them, the busiest first;
    - length: by split and objective, of comparisons without ties, the mean length of the chosen and the
      rejected answer in characters and the share in which the chosen one is longer, or as long;
    - images: by split and format, the number of images and their mean and largest size in bytes;
    - flip_pairs: by split, the pairs of which both records are there;
    - rejected, duplicates, merged, dropped: what the build left out, and why;
    - leaks: records that hang together across splits which the input fixes (see `data_tools.splits`).
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    counts: Counter[tuple[str, str, str, str]] = Counter()
    splits: dict[str, _Split] = {}
    for shard in manifest.shards:
        counts[shard.split, shard.kind, shard.modality, shard.source] += shard.records
        found = splits.setdefault(shard.split, _Split())
        for record, images in _rows(directory, shard):
            found.add(record, images)
    row: dict[str, Any] = {
        "records": manifest.records,
        "counts": [
            {"split": split, "kind": kind, "modality": modality, "source": source, "records": number}
            for (split, kind, modality, source), number in sorted(counts.items())
        ],
    }
    told = {split: splits[split].told() for split in sorted(splits)}
    for key in ("objectives", "labels", "judges", "length", "images", "flip_pairs"):
        row[key] = {split: values[key] for split, values in told.items()}
    for key in LEFT_OUT:
        row[key] = manifest.extra.get(key, {})
    return row


def _rows(directory: Path, shard: ShardInfo) -> Iterator[tuple[dict[str, Any], tuple[Member, ...]]]:
    """Each record of a shard as JSON values, with where its images lie."""
    path = directory / shard.name

    def fail(key: str, what: str) -> NoReturn:
        raise UserError(f"{where(path, key)}: {what}")

    with open(path, "rb") as file:
        for entry in entries(path, shard, fail):
            file.seek(entry.members[0].offset)
            data = file.read(entry.members[0].size)
            try:
                yield read_row(data), entry.members[1:]
            except UserError as error:
                fail(entry.key, str(error))


@dataclass
class _Lengths:
    """Sums over comparisons: their number, the characters of the two answers, and how they compare."""

    comparisons: int = 0
    chosen: int = 0
    rejected: int = 0
    longer: int = 0
    same: int = 0

    def add(self, chosen: int, rejected: int) -> None:
        self.comparisons += 1
        self.chosen += chosen
        self.rejected += rejected
        self.longer += chosen > rejected
        self.same += chosen == rejected

    def told(self) -> dict[str, float]:
        return {
            "comparisons": self.comparisons,
            "chosen_characters": round(self.chosen / self.comparisons, 2),
            "rejected_characters": round(self.rejected / self.comparisons, 2),
            "chosen_longer": round(self.longer / self.comparisons, 4),
            "same_length": round(self.same / self.comparisons, 4),
        }


@dataclass
class _Images:
    """Of images of one format: their number, and their bytes in all and at most."""

    number: int = 0
    bytes: int = 0
    largest: int = 0


@dataclass
class _Split:
    """What was counted of a split so far."""

    judged: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(_none_judged))
    labels: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    lengths: dict[str, _Lengths] = field(default_factory=lambda: defaultdict(_Lengths))
    images: dict[str, _Images] = field(default_factory=lambda: defaultdict(_Images))
    flips: array[int] = field(default_factory=lambda: array("Q"))  # a hash for each record of a pair

    def add(self, row: dict[str, Any], images: tuple[Member, ...]) -> None:
        """Counts a record; older files have no rankings and ratings of scales only."""
        flip = row["provenance"].get("flip")
        if isinstance(flip, str):
            digest = hashlib.blake2b(f"{row['source']} {flip}".encode(), digest_size=8).digest()
            self.flips.append(int.from_bytes(digest, "little"))
        for member in images:
            seen = self.images[member.name.rpartition(".")[2]]
            seen.number += 1
            seen.bytes += member.size
            seen.largest = max(seen.largest, member.size)
        self._add_labels(row)
        for comparison in row["comparisons"]:
            counts = self.judged[comparison["objective"]]
            counts["comparisons"] += 1
            counts["ties"] += comparison["tie"]
            if not comparison["tie"]:
                both = (len(row["responses"][comparison[side]]["text"]) for side in ("better", "worse"))
                self.lengths[comparison["objective"]].add(*both)
        for rating in row["ratings"]:
            self.judged[rating["objective"]]["ratings"] += 1
            self.judged[rating["objective"]]["yes or no"] += rating.get("kind") == "binary"
        for ranking in row.get("rankings", ()):
            self.judged[ranking["objective"]]["rankings"] += 1

    def _add_labels(self, row: dict[str, Any]) -> None:
        kinds = {"comparisons": "pair", "rankings": "ranking", "corrections": "correction"}
        kinds |= {"critiques": "critique", "votes": ""}
        types = {kind for name, kind in kinds.items() if kind and row.get(name)}
        types |= {"binary" if rating.get("kind") == "binary" else "rating" for rating in row["ratings"]}
        self.labels.update(types)
        for name in (*kinds, "ratings"):
            self.judges.update(label["judge"] for label in row.get(name, ()))

    def told(self) -> dict[str, Any]:
        """All of it as plain values."""
        _, times = np.unique(np.array(self.flips, np.uint64), return_counts=True)
        return {
            "objectives": dict(sorted(self.judged.items())),
            "labels": {name: self.labels[name] for name in LABEL_TYPES if self.labels[name]},
            "judges": dict(sorted(self.judges.items(), key=lambda item: (-item[1], item[0]))),
            "length": {name: lengths.told() for name, lengths in sorted(self.lengths.items())},
            "images": {
                name: {
                    "number": images.number,
                    "mean_bytes": round(images.bytes / images.number),
                    "largest_bytes": images.largest,
                }
                for name, images in sorted(self.images.items())
            },
            "flip_pairs": int((times == 2).sum()),
        }


def _none_judged() -> dict[str, int]:
    return dict.fromkeys(JUDGED, 0)


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


def left_out(row: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each number of copies and drops that a build tells of, by the keys of `LEFT_OUT`."""
    lines = [f"Copies dropped from {source}: {number:,}" for source, number in row["duplicates"].items()]
    lines += [
        f"Copies merged, with their judgements, from {source}: {number:,}"
        for source, number in row["merged"].items()
    ]
    lines += [f"Dropped for balance from {name}: {number:,}" for name, number in row["dropped"].items()]
    return lines + [
        f"Leak in the input: {number:,} records share an image, question or group across {splits}"
        for splits, number in row["leaks"].items()
    ]
