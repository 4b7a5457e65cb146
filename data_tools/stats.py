"""What a data directory holds, and a length audit: how often the chosen answer is merely the longer one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.manifest import read_manifest
from data_tools.shards import open_records

if TYPE_CHECKING:
    from rich.console import Group

LEFT_OUT = ("rejected", "duplicates", "merged", "dropped", "leaks")  # what a build tells of in the manifest
JUDGED = ("comparisons", "ties", "ratings", "yes or no", "rankings")


def stats(directory: str | Path) -> dict[str, Any]:
    """Counts and audits as plain values.

    - counts: rows of split, kind, modality, source and the number of records;
    - objectives: by split and objective, the numbers of comparisons, ties, ratings, of these yes or no, and rankings;
    - length: by split and objective, of comparisons without ties, the mean length of the chosen and the
      rejected answer in characters and the share in which the chosen one is longer, or as long;
    - flip_pairs: by split, the pairs of which both records are there;
    - rejected, duplicates, merged, dropped: what the build left out, and why;
    - leaks: records that hang together across splits which the input fixes (see `data_tools.splits`).
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for shard in manifest.shards:
        counts[shard.split, shard.kind, shard.modality, shard.source] += shard.records
    row: dict[str, Any] = {
        "records": manifest.records,
        "counts": [
            {"split": split, "kind": kind, "modality": modality, "source": source, "records": number}
            for (split, kind, modality, source), number in sorted(counts.items())
        ],
        "objectives": {},
        "length": {},
        "flip_pairs": {},
    }
    for split in sorted({shard.split for shard in manifest.shards}):
        row["objectives"][split], row["length"][split], row["flip_pairs"][split] = _of_split(directory, split)
    for key in LEFT_OUT:
        row[key] = manifest.extra.get(key, {})
    return row


def _of_split(directory: Path, split: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    judged: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(JUDGED, 0))
    lengths: dict[str, list[tuple[int, int]]] = defaultdict(list)
    flips: Counter[tuple[str, str]] = Counter()
    records = open_records(directory, split)
    for index in range(len(records)):
        record = records.meta(index)
        if isinstance(record["provenance"].get("flip"), str):
            flips[record["source"], record["provenance"]["flip"]] += 1
        for comparison in record["comparisons"]:
            counts = judged[comparison["objective"]]
            counts["comparisons"] += 1
            counts["ties"] += comparison["tie"]
            if not comparison["tie"]:
                chosen, other = (
                    len(record["responses"][comparison[side]]["text"]) for side in ("better", "worse")
                )
                lengths[comparison["objective"]].append((chosen, other))
        for rating in record["ratings"]:
            judged[rating["objective"]]["ratings"] += 1
            # older files have only scales
            judged[rating["objective"]]["yes or no"] += rating.get("kind") == "binary"
        for ranking in record.get("rankings", ()):  # older files have none
            judged[ranking["objective"]]["rankings"] += 1
    audit = {name: _length(pairs) for name, pairs in sorted(lengths.items())}
    return dict(sorted(judged.items())), audit, sum(number == 2 for number in flips.values())


def _length(pairs: list[tuple[int, int]]) -> dict[str, float]:
    number = len(pairs)
    return {
        "comparisons": number,
        "chosen_characters": round(sum(chosen for chosen, _ in pairs) / number, 2),
        "rejected_characters": round(sum(other for _, other in pairs) / number, 2),
        "chosen_longer": round(sum(chosen > other for chosen, other in pairs) / number, 4),
        "same_length": round(sum(chosen == other for chosen, other in pairs) / number, 4),
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
    lines += [f"Dropped for balance from {name}: {number:,}" for name, number in row["dropped"].items()]
    return lines + [
        f"Leak in the input: {number:,} records share an image, question or group across {splits}"
        for splits, number in row["leaks"].items()
    ]
