"""The pairs of answers of which one was judged the better, from any number of records in bounded memory.

A comparison without a tie is a pair; a ranking counts as the pairs that it amounts to, and two ratings of different
answers on one objective as a pair where they differ. Where there are more than `max_pairs` of one split, source and
modality, those stay whose keys have the smallest hashes: a sample that depends neither on the order of the records nor
on their number before them. Both records of an image-flip pair have one key, so they stay or go together.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from data_tools.hashes import hash64

Label = Literal["comparison", "ranking", "rating"]
MOST = 12  # pairs of one record, objective and label: a ranking of 40 has 780

_Judged = tuple[Label, str, int, int]  # objective, better, worse


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt, in the order in which the record holds them, and which of them is the better one.

    `links` and `questions` are hashes of what it may share with other pairs: see `links_of` and `questions_of`.
    """

    record: str
    place: int  # of the record in its split
    split: str
    modality: str
    source: str
    objective: str
    label: Label
    prompt: str
    answers: tuple[str, str]
    models: tuple[str | None, str | None]
    better: Literal[0, 1]
    links: tuple[int, ...]
    questions: tuple[int, ...]


def pairs_of(row: dict[str, Any], split: str, place: int) -> list[Pair]:
    """The pairs of a record (`schema.to_json`), at most `MOST` of each objective and kind of label."""
    responses = row["responses"]
    by_kind: dict[tuple[str, str], list[_Judged]] = defaultdict(list)
    for judged in (*_compared(row), *_ranked(row), *_rated(row)):
        by_kind[judged[0], judged[1]].append(judged)
    prompt = prompt_text(row)
    found = []
    for kind in by_kind.values():
        if len(kind) > MOST:
            kind = sorted(kind, key=lambda judged: hash64("pair", row["id"], *judged))[:MOST]
        for label, objective, better, worse in kind:
            first, second = sorted((better, worse))
            answers = (responses[first]["text"], responses[second]["text"])
            found.append(
                Pair(
                    record=row["id"],
                    place=place,
                    split=split,
                    modality="image-text" if row["images"] else "text",
                    source=row["source"],
                    objective=objective,
                    label=label,
                    prompt=prompt,
                    answers=answers,
                    models=(responses[first].get("model"), responses[second].get("model")),
                    better=0 if better == first else 1,
                    links=links_of(row, prompt, answers),
                    questions=questions_of(row, prompt, answers),
                )
            )
    return found


def _compared(row: dict[str, Any]) -> Iterator[_Judged]:
    for comparison in row["comparisons"]:
        if not comparison["tie"]:
            yield "comparison", comparison["objective"], comparison["better"], comparison["worse"]


def _ranked(row: dict[str, Any]) -> Iterator[_Judged]:
    for ranking in row.get("rankings", ()):  # older files have none
        for higher, lower in combinations(ranking["order"], 2):
            for better in higher:
                for worse in lower:
                    yield "ranking", ranking["objective"], better, worse


def _rated(row: dict[str, Any]) -> Iterator[_Judged]:
    """Of several judges' ratings of one answer, the mean counts; each as a share of its scale."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rating in row["ratings"]:
        width = rating["high"] - rating["low"]
        if width > 0:
            values[rating["objective"]][rating["response"]].append((rating["value"] - rating["low"]) / width)
    for objective, of in values.items():
        means = {response: sum(given) / len(given) for response, given in of.items()}
        for one, other in combinations(sorted(means), 2):
            if abs(means[one] - means[other]) > 1e-9:
                better, worse = (one, other) if means[one] > means[other] else (other, one)
                yield "rating", objective, better, worse


def prompt_text(row: dict[str, Any]) -> str:
    """All turns of a prompt, a line each; of a conversation each begins with who speaks."""
    turns = [
        (message["role"], "".join(part["text"] for part in message["content"] if part["type"] == "text"))
        for message in row["prompt"]
    ]
    return turns[0][1] if len(turns) == 1 else "\n".join(f"{role}: {text}" for role, text in turns)


def links_of(row: dict[str, Any], prompt: str, answers: tuple[str, str]) -> tuple[int, ...]:
    """What pairs of different folds must not share, as hashes: an image, the flip pair or group that the source
    declares (as in `data_tools.splits`), and, of a text, the prompt with both answers."""
    keys = [] if row["images"] else [_same_words(prompt, answers)]
    keys += [
        ("image", image.get("sha256") or image.get("path") or f"{row['source']}/{row['id']}")
        for image in row["images"]
    ]
    for kind in ("flip", "group"):
        name = row["provenance"].get(kind)
        if isinstance(name, str):
            keys.append((kind, row["source"], name))
    return tuple(hash64(*key) for key in keys)


def _same_words(prompt: str, answers: tuple[str, str]) -> tuple[str, ...]:
    return ("same words", prompt, *sorted(answers))


def questions_of(row: dict[str, Any], prompt: str, answers: tuple[str, str]) -> tuple[int, ...]:
    """The prompt and, of a text, its first question, else the prompt with both answers, as hashes: pairs that share
    them hang together too, unless it is a phrase that is everywhere.

    One question with fixed answers ("Is there a cat?", "Yes.", "No.") to hundreds of pictures is such a phrase, and
    the plainest thing to guess: bound together, it would be one group, of which nothing could be told.
    """
    keys: list[tuple[str, ...]] = [("prompt", prompt)]
    if row["images"]:
        keys.append(_same_words(prompt, answers))
    else:
        first = next((message for message in row["prompt"] if message["role"] == "user"), row["prompt"][0])
        text = "".join(part["text"] for part in first["content"] if part["type"] == "text")
        keys.append(("question", " ".join(text.split())))
    return tuple(hash64(*key) for key in keys)


@dataclass
class PairSample:
    """Takes in records one by one and keeps a bounded sample of their pairs; `seen` counts all of them by split,
    source and modality."""

    most: int
    seed: int = 0
    seen: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _strata: dict[tuple[str, str, str], _Smallest] = field(default_factory=dict)

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        """Takes in one record."""
        stratum = (split, row["source"], "image-text" if row["images"] else "text")
        flip = row["provenance"].get("flip")
        name = flip if isinstance(flip, str) else row["id"]
        kept = self._strata.setdefault(stratum, _Smallest(self.most))
        key = hash64(self.seed, isinstance(flip, str), row["source"], name)
        # a record that can't stay is counted, and its texts aren't hashed
        found = pairs_of(row, split, index) if key < kept.below else None
        number = len(found) if found is not None else _count(row)
        if number:
            self.seen[stratum] = self.seen.get(stratum, 0) + number
        if found:
            kept.add(key, found)

    def pairs(self) -> list[Pair]:
        """The sample, by split, source and modality, then in the order of the records."""
        return [
            pair
            for stratum in sorted(self._strata)
            for pair in sorted(
                self._strata[stratum].pairs(), key=lambda p: (p.place, p.objective, p.label, p.answers)
            )
        ]

    def notes(self) -> tuple[str, ...]:
        """A sentence for each part of which only a sample was kept."""
        return tuple(
            f"{source}, {modality}, {split}: a sample of {kept.size:,} of {self.seen[split, source, modality]:,} pairs"
            for (split, source, modality), kept in sorted(self._strata.items())
            if kept.size < self.seen.get((split, source, modality), 0)
        )


def _count(row: dict[str, Any]) -> int:
    """How many pairs `pairs_of` gives."""
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for judged in (*_compared(row), *_ranked(row), *_rated(row)):
        numbers[judged[0], judged[1]] += 1
    return sum(min(number, MOST) for number in numbers.values())


class _Smallest:
    """The pairs whose keys are the smallest, at most `most` of them and all of a key or none."""

    def __init__(self, most: int) -> None:
        self.most, self.size, self.below = most, 0, 2**63
        self._heap: list[int] = []  # keys, negative: the largest is on top
        self._held: dict[int, list[Pair]] = {}

    def add(self, key: int, pairs: list[Pair]) -> None:
        if key not in self._held:
            heapq.heappush(self._heap, -key)
        self._held.setdefault(key, []).extend(pairs)
        self.size += len(pairs)
        while self.size > self.most:
            self.below = -heapq.heappop(self._heap)
            self.size -= len(self._held.pop(self.below))

    def pairs(self) -> Iterator[Pair]:
        for held in self._held.values():
            yield from held
