"""What a data directory holds, and a length audit: how often the chosen answer is merely the longer one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.hashes import hash16
from data_tools.manifest import ShardInfo, read_manifest
from data_tools.shards import open_shard

if TYPE_CHECKING:
    from rich.console import Group

# what a build tells of in the manifest
LEFT_OUT = ("rows", "rejected", "duplicates", "merged", "filtered", "dropped", "leaks")
JUDGED = ("comparisons", "ties", "ratings", "yes or no", "rankings")


def stats(directory: str | Path) -> dict[str, Any]:
    """Counts and audits as plain values, read record by record: see `summary`."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    tallies: dict[str, Tally] = {}
    for shard in manifest.shards:
        tally = tallies.setdefault(shard.split, Tally())
        records = open_shard(directory, shard)
        for index in range(len(records)):
            tally.add(records.meta(index))
    return summary(manifest.shards, tallies, manifest.extra)


def summary(
    shards: Sequence[ShardInfo], tallies: Mapping[str, Tally], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Counts and audits from the shards, what was counted by split, and the manifest's `extra`.

    - counts: rows of split, kind, modality, source and the number of records;
    - objectives: by split and objective, the numbers of comparisons, ties, ratings, of these yes or no, and rankings;
    - length: by split and objective, of comparisons without ties, the mean length of the chosen and the
      rejected answer in characters and the share in which the chosen one is longer, or as long;
    - flip_pairs: by split, the pairs of which both records are there;
    - rows, rejected, duplicates, merged, filtered, dropped: what the build read and left out, and why;
    - leaks: records that hang together across splits which the input fixes (see `data_tools.splits`).
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
        "objectives": {},
        "length": {},
        "flip_pairs": {},
    }
    for split, tally in sorted(tallies.items()):
        row["objectives"][split], row["length"][split], row["flip_pairs"][split] = tally.result()
    for key in LEFT_OUT:
        row[key] = extra.get(key, {})
    return row


@dataclass
class Tally:
    """What is counted of some records of one split, such as a shard's, and can be added up.

    By objective `judged` holds the numbers of `JUDGED`; `lengths`, of comparisons without ties, their number, the sums
    of the characters of the chosen and the rejected answers, and how often the chosen one is longer, and as long. `flips`
    says how many records of each flip pair there are (by a hash of its name).
    """

    judged: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    flips: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        """Counts a record, given as JSON values (see `schema.to_json`)."""
        if isinstance(row["provenance"].get("flip"), str):
            self.flips[hash16(f"{row['source']}/{row['provenance']['flip']}").hex()[:16]] += 1
        for comparison in row["comparisons"]:
            name, tie = comparison["objective"], bool(comparison["tie"])
            _sum(self.judged, name, (1, tie, 0, 0, 0))
            if not tie:
                chosen, other = (
                    len(row["responses"][comparison[side]]["text"]) for side in ("better", "worse")
                )
                _sum(self.lengths, name, (1, chosen, other, chosen > other, chosen == other))
        for rating in row["ratings"]:
            # older files have only scales
            _sum(self.judged, rating["objective"], (0, 0, 1, rating.get("kind") == "binary", 0))
        for ranking in row.get("rankings", ()):  # older files have none
            _sum(self.judged, ranking["objective"], (0, 0, 0, 0, 1))

    def merge(self, other: Tally) -> None:
        """Adds what was counted of other records."""
        for mine, theirs in ((self.judged, other.judged), (self.lengths, other.lengths)):
            for name, numbers in theirs.items():
                _sum(mine, name, numbers)
        self.flips.update(other.flips)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return vars(self)

    @staticmethod
    def from_json(row: dict[str, Any]) -> Tally:
        """What `to_json` gave."""
        return Tally(row["judged"], row["lengths"], Counter(row["flips"]))

    def result(self) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]], int]:
        """By objective the counts of `JUDGED` and the lengths, and how many flip pairs are there with both records."""
        judged = {
            name: dict(zip(JUDGED, numbers, strict=True)) for name, numbers in sorted(self.judged.items())
        }
        audit = {name: _length(*sums) for name, sums in sorted(self.lengths.items())}
        return judged, audit, sum(number == 2 for number in self.flips.values())


def _sum(sums: dict[str, list[int]], name: str, numbers: Sequence[int]) -> None:
    known = sums.setdefault(name, [0] * len(numbers))
    for place, number in enumerate(numbers):
        known[place] += int(number)


def _length(number: int, chosen: int, other: int, longer: int, same: int) -> dict[str, float]:
    return {
        "comparisons": number,
        "chosen_characters": round(chosen / number, 2),
        "rejected_characters": round(other / number, 2),
        "chosen_longer": round(longer / number, 4),
        "same_length": round(same / number, 4),
    }


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
    parts: list[Any] = [held, judged]
    flips = ", ".join(f"{split} {number:,}" for split, number in row["flip_pairs"].items())
    parts.append(f"Image-flip pairs: {flips or 'none'}")
    for source, reasons in row["rejected"].items():
        parts += [f"Rejected from {source}: {number:,} x {reason}" for reason, number in reasons.items()]
    return Group(*parts, *left_out(row))


def left_out(row: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each number of copies and drops that a build tells of, by the keys of `LEFT_OUT`."""
    lines = [f"Copies dropped from {source}: {number:,}" for source, number in row["duplicates"].items()]
    lines += [
        f"Copies merged, with their judgements, from {source}: {number:,}"
        for source, number in row["merged"].items()
    ]
    lines += [f"Filtered from {name}: {number:,}" for name, number in row["filtered"].items()]
    lines += [f"Dropped for balance from {name}: {number:,}" for name, number in row["dropped"].items()]
    return lines + [
        f"Leak in the input: {number:,} records share an image, question or group across {splits}"
        for splits, number in row["leaks"].items()
    ]
