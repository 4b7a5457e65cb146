"""The mixture as an index: which record stands at a position, as a pure function of the seed and the position.

There is no shuffle buffer, no list of the records and no state but a position: any process or worker computes its own
positions, and a run that goes on at any of them, on any number of workers, goes on in the same order.

Two things make the order. *Which stratum*: one of m draws an epoch has its k-th at the rank (k + u) / m, with one u in
[0, 1) from the seed, and all strata are merged by rank; so every window holds the strata in nearly their proportions,
across epochs too. *Which row of it*: the draws of a stratum come in passes, and pass p is a permutation of its own
(`permutation`); so after K draws of n rows each was shown K / n times, rounded up or down.

How many elements stand below a rank is a sum over strata in closed form. A position bounds its element's rank from
below and above so closely that at most 2 S + 1 elements of S strata lie between; those are sorted, exactly, as
integers.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat
from typing import NamedTuple, overload

from data_tools.balance.permutation import permuted, round_keys

FRACTION = 32  # bits of u


@dataclass(frozen=True)
class Stratum:
    """Rows that are drawn alike: their number, and how many draws an epoch has of them (0: none)."""

    name: str
    rows: int
    draws: int


@dataclass(frozen=True)
class Segment:
    """From `start` on an epoch has so many draws of each stratum, by name; those that aren't named are not drawn."""

    start: int
    draws: Mapping[str, int]


class Draw(NamedTuple):
    """What stands at a position: a stratum by its number, one of its rows, and which pass over them it is of."""

    stratum: int
    row: int
    showing: int


class Mixture:
    """An endless sequence of draws, read at any position in the same time."""

    def __init__(self, strata: Sequence[Stratum], seed: int) -> None:
        """Raises ValueError where nothing would be drawn, a name stands twice or a stratum that is drawn is empty."""
        self.strata, self.seed = tuple(strata), seed
        names = [stratum.name for stratum in strata]
        if len(set(names)) < len(names):
            raise ValueError("a stratum's name stands twice")
        # where each stratum's first stands between two ranks
        digests = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names]
        self._shifts = [int.from_bytes(digest[: FRACTION // 8], "big") for digest in digests]
        self.segments: list[Segment] = []
        self._merges: list[_Merge] = []
        self._drawn: list[list[int]] = []  # of each stratum before a segment
        self.extend(Segment(0, {stratum.name: stratum.draws for stratum in strata}))

    @property
    def period(self) -> int:
        """The draws of an epoch, by the strata's own numbers."""
        return sum(stratum.draws for stratum in self.strata)

    def extend(self, segment: Segment) -> None:
        """Draws in other proportions from a position on; what stands before it stays as it is, and no stratum's pass
        is broken off.

        Raises:
            ValueError: it begins before the last segment, or names a stratum that isn't there or has no rows, or none
                that is drawn.
        """
        rows = {stratum.name: stratum.rows for stratum in self.strata}
        if wrong := [
            name for name, draws in segment.draws.items() if draws < 0 or (draws and not rows.get(name))
        ]:
            raise ValueError(f"there is nothing to draw of {', '.join(wrong)}")
        if not any(segment.draws.values()):
            raise ValueError("a mixture without draws")
        if self.segments and segment.start < self.segments[-1].start:
            raise ValueError(
                f"a segment at {segment.start} behind one at {self.segments[-1].start}: positions before the last "
                "segment never change"
            )
        drawn = self.counts(segment.start) if self.segments else [0] * len(rows)
        merge = _Merge([segment.draws.get(name, 0) for name in rows], self._shifts)
        self.segments.append(segment)
        self._merges.append(merge)
        self._drawn.append(drawn)

    def at(self, position: int) -> Draw:
        """What stands at a position, counted over epochs from 0."""
        number, place = self._find(position)
        stratum, k = self._merges[number].element(place)
        showing, step = divmod(self._drawn[number][stratum] + k, self.strata[stratum].rows)
        keys = round_keys(f"{self.seed}/{self.strata[stratum].name}/{showing}")
        return Draw(stratum, permuted(step, self.strata[stratum].rows, keys), showing)

    def counts(self, position: int) -> list[int]:
        """How many draws of each stratum stand before a position."""
        number, place = self._find(position)
        merged = self._merges[number].counts(place)
        return [before + count for before, count in zip(self._drawn[number], merged, strict=True)]

    def _find(self, position: int) -> tuple[int, int]:
        """The segment that a position lies in, and its place there."""
        if position < 0:
            raise IndexError(f"position {position} of a mixture, which begins at 0")
        number = bisect_right(self.segments, position, key=lambda segment: segment.start) - 1
        return number, position - self.segments[number].start


class _Merge:
    """Strata merged by the rank of their draws: the k-th of m stands at (k + u) / m, of equal ranks that of the first
    stratum before. It has no end; an epoch lies between two whole ranks."""

    def __init__(self, draws: Sequence[int], shifts: Sequence[int]) -> None:
        self.size = len(draws)
        self.drawn = [(number, m, shifts[number]) for number, m in enumerate(draws) if m]
        self.total = sum(draws)
        self.shift = sum(shift for _, _, shift in self.drawn)
        # two ranks differ by no less than one part in m m' 2^FRACTION, so integers of so many more bits sort as they do
        self.bits = 2 * max(draws).bit_length()

    def element(self, place: int) -> tuple[int, int]:
        """The stratum of the draw that has `place` draws before it, and how many of its own come before it."""
        _, near, before = self._near(place)
        _, stratum, k = near[before]
        return stratum, k

    def counts(self, place: int) -> list[int]:
        """How many draws of each stratum come before the one with `place` draws before it."""
        counts, near, before = self._near(place)
        for _, stratum, _ in near[:before]:
            counts[stratum] += 1
        return counts

    def _near(self, place: int) -> tuple[list[int], list[tuple[int, int, int]], int]:
        """How many of each stratum lie below a bound of the element's rank, the few elements (rank, stratum, k) that
        lie between that bound and one above it, in order, and how many of these come before the element.

        Of m draws, ceil(m x - u) lie below the rank x: together no fewer than M x - U, and fewer than M x - U + S, of
        S strata whose draws and shifts sum to M and U. So at (place - S + U) / M the element is still to come, and at
        (place + 1 + U) / M it has come.
        """
        scale = self.total << FRACTION
        low = (place - len(self.drawn) << FRACTION) + self.shift
        high = (place + 1 << FRACTION) + self.shift
        counts, below = [0] * self.size, 0
        near: list[tuple[int, int, int]] = []
        for stratum, m, shift in self.drawn:
            own = self.total * shift
            first, stop = -((own - m * low) // scale), -((own - m * high) // scale)
            counts[stratum] = first
            below += first
            for k in range(first, stop):
                near.append((((k << FRACTION) + shift << self.bits) // m, stratum, k))
        near.sort()
        return counts, near, place - below


@dataclass(frozen=True)
class Label:
    """What records of one stratum have in common; `repeat` is how often an epoch shows each, on the average."""

    source: str
    modality: str
    repeat: float = 1.0

    @property
    def name(self) -> str:
        """Unlike that of any other label, since a modality has no stroke."""
        return f"{self.source}/{self.modality}/{self.repeat!r}"


class Labels(Sequence[Label]):
    """The label of each of many records, of which only the stretches of equal ones are kept."""

    def __init__(self, labels: Iterable[Label]) -> None:
        self._begins: list[int] = []
        self._labels: list[Label] = []
        self._size = 0
        for label, stretch in groupby(labels):
            self._begins.append(self._size)
            self._labels.append(label)
            self._size += sum(1 for _ in stretch)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Label]:
        ends = [*self._begins[1:], self._size]
        for label, begin, end in zip(self._labels, self._begins, ends, strict=False):
            yield from repeat(label, end - begin)

    @overload
    def __getitem__(self, index: int) -> Label: ...
    @overload
    def __getitem__(self, index: slice) -> Labels: ...

    def __getitem__(self, index: int | slice) -> Label | Labels:
        if isinstance(index, slice):
            return Labels(self[number] for number in range(self._size)[index])
        number = range(self._size)[index]
        return self._labels[bisect_right(self._begins, number) - 1]


@dataclass
class _Rows:
    """The records of a stratum, as stretches of neighbours: where each begins, and how many rows lie before it."""

    begins: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, begin: int, length: int) -> None:
        self.begins.append(begin)
        self.before.append(self.size)
        self.size += length

    def record(self, row: int) -> int:
        stretch = bisect_right(self.before, row) - 1
        return self.begins[stretch] + row - self.before[stretch]


class Layout:
    """Where the rows of each stratum lie among records: a data set's shards hold one stratum each, so a few stretches
    tell it however many records there are."""

    def __init__(self, labels: Iterable[Label | None]) -> None:
        """`labels`: each record's, in their order, None for those that aren't drawn; strata are in the order of their
        names, not of the records."""
        rows: dict[Label, _Rows] = {}
        begin = 0
        for label, stretch in groupby(labels):
            length = sum(1 for _ in stretch)
            if label is not None:
                rows.setdefault(label, _Rows()).add(begin, length)
            begin += length
        self.labels = sorted(rows, key=lambda label: label.name)
        self._rows = [rows[label] for label in self.labels]

    def strata(self, once: bool = False) -> list[Stratum]:
        """The strata with the draws that their labels plan; `once`: one of each record."""
        return [
            Stratum(label.name, rows.size, rows.size if once else round(rows.size * label.repeat))
            for label, rows in zip(self.labels, self._rows, strict=True)
        ]

    def record(self, stratum: int, row: int) -> int:
        """The record that is a row of a stratum."""
        return self._rows[stratum].record(row)

    def each_once(self, seed: int) -> Iterator[int]:
        """Every record that has a label once, mixed like the whole."""
        if self.labels:
            mixture = Mixture(self.strata(once=True), seed)
            draws = map(mixture.at, range(mixture.period))
            yield from (self.record(draw.stratum, draw.row) for draw in draws)
