"""What is counted of the records of a split, shard by shard, so that it can be added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from data_tools.hashes import hash16
from data_tools.labels import LABEL_TYPES, TYPE_OF

JUDGED = ("comparisons", "ties", "ratings", "yes or no", "rankings")
_JUDGING = ("comparisons", "rankings", "ratings", "corrections", "critiques", "votes")

Sizes = Sequence[tuple[str, int]]  # of a record's images: the format, as its ending, and the bytes


@dataclass
class Tally:
    """What is counted of some records of one split, such as a shard's, and can be added up.

    By objective `judged` holds the numbers of `JUDGED`; `lengths`, of comparisons without ties, their number, the sums
    of the characters of the chosen and the rejected answers, and how often the chosen one is longer, and as long.
    `labels` counts records by the types of labels that they have, `judges` labels by who gave them; `images` holds, by
    format, the number of images, and their bytes in all and at most. `flips` says how many records of each flip pair
    there are (by a hash of its name).
    """

    judged: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    images: dict[str, list[int]] = field(default_factory=dict)
    flips: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any], images: Sizes) -> None:
        """Counts a record, given as JSON values (see `schema.to_json`), and its images. Older files have no rankings,
        and only ratings on scales.
        """
        if isinstance(row["provenance"].get("flip"), str):
            self.flips[hash16(f"{row['source']}/{row['provenance']['flip']}").hex()[:16]] += 1
        for name, size in images:
            self._add_images(name, 1, size, size)
        for name, kind in TYPE_OF.items():
            if row.get(name):
                self.labels[kind] += 1
        for kind in {"binary" if rating.get("kind") == "binary" else "rating" for rating in row["ratings"]}:
            self.labels[kind] += 1
        for name in _JUDGING:
            for label in row.get(name, ()):
                self.judges[label["judge"]] += 1
        for comparison in row["comparisons"]:
            name, tie = comparison["objective"], bool(comparison["tie"])
            _sum(self.judged, name, (1, tie, 0, 0, 0))
            if not tie:
                chosen, other = (
                    len(row["responses"][comparison[side]]["text"]) for side in ("better", "worse")
                )
                _sum(self.lengths, name, (1, chosen, other, chosen > other, chosen == other))
        for rating in row["ratings"]:
            _sum(self.judged, rating["objective"], (0, 0, 1, rating.get("kind") == "binary", 0))
        for ranking in row.get("rankings", ()):
            _sum(self.judged, ranking["objective"], (0, 0, 0, 0, 1))

    def merge(self, other: Tally) -> None:
        """Adds what was counted of other records."""
        for mine, theirs in ((self.judged, other.judged), (self.lengths, other.lengths)):
            for name, numbers in theirs.items():
                _sum(mine, name, numbers)
        for name, (number, total, largest) in other.images.items():
            self._add_images(name, number, total, largest)
        self.labels.update(other.labels)
        self.judges.update(other.judges)
        self.flips.update(other.flips)

    def _add_images(self, name: str, number: int, total: int, largest: int) -> None:
        known = self.images.setdefault(name, [0, 0, 0])
        known[:] = known[0] + number, known[1] + total, max(known[2], largest)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return vars(self)

    @staticmethod
    def from_json(row: dict[str, Any]) -> Tally:
        """What `to_json` gave."""
        counters = {name: Counter(row[name]) for name in ("labels", "judges", "flips")}
        return Tally(**{**row, **counters})

    def told(self) -> dict[str, Any]:
        """All of it as `stats.summary` tells it."""
        return {
            "objectives": {
                name: dict(zip(JUDGED, numbers, strict=True)) for name, numbers in sorted(self.judged.items())
            },
            "labels": {name: self.labels[name] for name in LABEL_TYPES if self.labels[name]},
            "judges": dict(sorted(self.judges.items(), key=lambda item: (-item[1], item[0]))),
            "length": {name: _length(*sums) for name, sums in sorted(self.lengths.items())},
            "images": {
                name: {"number": number, "mean_bytes": round(total / number), "largest_bytes": largest}
                for name, (number, total, largest) in sorted(self.images.items())
            },
            "flip_pairs": sum(number == 2 for number in self.flips.values()),
        }


def _sum(sums: dict[str, list[int]], name: str, numbers: Sequence[int]) -> None:
    known = sums.setdefault(name, [0] * len(numbers))
    for place, number in enumerate(numbers):
        known[place] += number


def _length(number: int, chosen: int, other: int, longer: int, same: int) -> dict[str, float]:
    return {
        "comparisons": number,
        "chosen_characters": round(chosen / number, 2),
        "rejected_characters": round(other / number, 2),
        "chosen_longer": round(longer / number, 4),
        "same_length": round(same / number, 4),
    }
