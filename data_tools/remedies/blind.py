"""What the blind probe solves is thinned out until it solves no more than chance.

The probe (`data_tools.audits.probe`) gives each pair the probability p that its better answer is the better one, as far
as words tell. Where it tells more than chance would, of the pairs of a task (modality, objective and source) and split
of which it is about as sure a share a is told right; each of these stays with probability (1 - a) / a, so that as many
are expected to be told right as wrong, and the words that made it sure say nothing any more. This evens out what a
filter with a threshold would turn into its opposite (dropping all that is told right leaves what is told wrong), and so
would p in the place of a, as probes are surer than they are right. As a new probe may find what the first one missed,
it is fitted again on what is left, up to `rounds` times (the repetition is that of AFLite, R. Le Bras et al.,
Adversarial Filters of Dataset Biases, 2020).

Whether it is more than chance is asked of each task and split, of each task over all splits, since a small split can't
tell by itself, and of all that is left then together, since many small tasks may each be a little above chance: see
`_above_chance`. A task in too few groups to learn from can't be judged; the report names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field

from data_tools.audits import probe
from data_tools.audits.folds import groups_of
from data_tools.audits.pairs import Pair, PairSample, pairs_of
from data_tools.intervals import Floats, Ints, beyond_chance
from data_tools.remedies.base import Selective, View
from data_tools.schema import Modality

BATCH = 2000  # records whose pairs are held at a time
SURENESS = 10  # degrees of it that are told apart at most, of no fewer units than FEWEST
FEWEST = 40
ENOUGH = 1.96  # standard deviations above one half that are no luck any more
EVEN = 1e-6  # a probability so near to one half tells nothing: the mean of a flip pair, but for rounding

Part = tuple[probe.Task, str]  # a task's pairs in one split


class EvenOutBlind(Selective):
    """Thins out the pairs that the blind probe solves, or leaves them all out."""

    type: Literal["blind_probe"] = "blind_probe"
    modality: Modality | None = Field(
        default="image-text", description="For the records of this modality; null is both."
    )
    drop_above: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="Leave out every record whose preference the probe gives more than this probability; null thins "
        "them out evenly instead.",
    )
    rounds: int = Field(default=4, ge=1, le=20, description="Fit the probe at most so often.")
    max_pairs: int = Field(
        default=20_000,
        ge=100,
        description="Fit it to at most so many pairs of each split, source and modality.",
    )

    def apply(self, view: View, seed: int) -> None:
        held: list[Pair] | None = None
        unjudged = set[probe.Task]()
        for number in range(self.rounds + 1):
            subjects = self.subjects(view)
            whole = held is not None
            if held is None:
                held, whole = self._read(view, subjects, seed + number)
            groups = groups_of(held)
            fitted = probe.fit(held, groups, seed + number)
            self._tell_unjudged(view, held, groups, fitted, unjudged)
            above = _above_chance(held, groups, _right(held, fitted.out_of_fold) - 0.5)
            if not above:
                return
            if number == self.rounds:
                for part, share in above.items():
                    view.tell(
                        f"{self._named(part[0])}, {part[1]}: after {number} rounds {share:.1%} are still told"
                    )
                return
            if whole:
                solved = _Solved.of(view, [(held, fitted.out_of_fold)])
            else:
                solved = _Solved.of(
                    view, ((some, fitted.probability(some)) for some in _batches(view, subjects))
                )
            if self.drop_above is not None:
                gone_N = solved.surer_than(self.drop_above, above)[view.units]
            else:
                gone_N = view.luck(seed, f"blind_probe {number}") / 2**64 >= solved.stays(above)[view.units]
            stay_N = np.cumsum(~gone_N) - 1
            held = [replace(pair, place=int(stay_N[pair.place])) for pair in held if not gone_N[pair.place]]
            held = held if whole else None
            view.drop(gone_N, "the blind probe solves it")
            if self.drop_above is not None:
                return

    def _read(self, view: View, subjects: np.ndarray, seed: int) -> tuple[list[Pair], bool]:
        """A sample of the pairs, and whether it is all of them. One of all splits, as each pair is judged without what
        hangs together with it.
        """
        sample = PairSample(self.max_pairs, seed)
        splits = view.split
        for index, row in zip(np.flatnonzero(subjects).tolist(), view.rows(subjects), strict=True):
            sample.see(splits[index], index, row)
        return sample.pairs(), not sample.notes()

    def _tell_unjudged(
        self,
        view: View,
        pairs: Sequence[Pair],
        groups: Ints,
        fitted: probe.BlindProbe,
        known: set[probe.Task],
    ) -> None:
        tasks: dict[probe.Task, list[int]] = {}
        for at, pair in enumerate(pairs):
            tasks.setdefault(probe.task_of(pair), []).append(at)
        for task in sorted(tasks.keys() - fitted.weights.keys() - known):
            known.add(task)
            number, of = len(tasks[task]), len(np.unique(groups[tasks[task]]))
            view.tell(
                f"{self._named(task)}: not judged, as {number:,} pairs in {of} groups are too few to learn from (it "
                f"takes {probe.FEWEST} groups); all stay"
            )

    def _named(self, task: probe.Task) -> str:
        modality, objective, source = task
        return f"{self.type}: {source}, {modality}, {objective}"


@dataclass(frozen=True)
class _Solved:
    """How far the probe solves units: for each of M (a unit, by number, and a part of its pairs) the mean probability
    that it gives what was judged, NaN where it knows nothing. Both of a flip pair are one unit and have one mean: what
    tells one right tells the other wrong.
    """

    units: int
    unit_M: Ints
    part_M: Ints  # index into `parts`
    right_M: Floats
    parts: list[Part]

    @staticmethod
    def of(
        view: View, judged: Iterator[tuple[list[Pair], Floats]] | list[tuple[list[Pair], Floats]]
    ) -> _Solved:
        """From all pairs of the view, some at a time, with the probability of each one's first answer."""
        unit_N = view.units
        parts: dict[Part, int] = {}
        units, numbers, rights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
        for pairs, first in judged:
            units.append(unit_N[[pair.place for pair in pairs]])
            of = [parts.setdefault((probe.task_of(pair), pair.split), len(parts)) for pair in pairs]
            numbers.append(np.array(of, np.int64))
            rights.append(_right(pairs, first))
        both = np.stack([np.concatenate(units), np.concatenate(numbers)])
        (unit_M, part_M), back = np.unique(both, axis=1, return_inverse=True)
        back = back.reshape(-1)
        right_M = np.bincount(back, np.concatenate(rights)) / np.bincount(back)
        return _Solved(int(unit_N.max(initial=-1)) + 1, unit_M, part_M, right_M, list(parts))

    def stays(self, these: dict[Part, float]) -> Floats:
        """The probability with which each unit stays, by these parts: the smallest that one of them gives it."""
        stays_U = np.ones(self.units)
        for part in these:
            members = np.flatnonzero(self.part_M == self.parts.index(part))
            np.minimum.at(stays_U, self.unit_M[members], _stay(self.right_M[members]))
        return stays_U

    def surer_than(self, most: float, these: dict[Part, float]) -> np.ndarray:
        """Whether the probe gives what was judged more than this probability, in one of these parts; bool, by unit."""
        sure_U = np.zeros(self.units, bool)
        among = np.isin(self.part_M, [self.parts.index(part) for part in these])
        sure_U[self.unit_M[among & (self.right_M > most)]] = True
        return sure_U


def _right(pairs: Sequence[Pair], first: Floats) -> Floats:
    """The probability of what was judged, from that of the first answer."""
    return np.where([pair.better == 0 for pair in pairs], first, 1 - first)


def _above_chance(pairs: Sequence[Pair], groups: Ints, by: Floats) -> dict[Part, float]:
    """The parts of which more is told right than chance would, with the share that is; `by` is above 0 for what is told
    right, and NaN for what isn't known.

    What tells as much right as wrong within its group, as a flip pair does, has no say, or it would hide what the
    others give away. With few groups chance is wide: see `intervals.beyond_chance`; of fewer than `probe.FEWEST` none
    is said to be above it.
    """
    told = np.where(np.abs(by) < EVEN, 0.0, np.sign(by)) / 2
    known = np.flatnonzero(~np.isnan(by))
    parts: dict[Part, list[int]] = {}
    for at in known.tolist():
        parts.setdefault((probe.task_of(pairs[at]), pairs[at].split), []).append(at)

    def above(members: Sequence[int]) -> bool:
        return (
            len(np.unique(groups[members])) >= probe.FEWEST
            and beyond_chance(told[members], groups[members]) > ENOUGH
        )

    def together(these: set[Part]) -> set[Part]:
        """Those of which more is told right than wrong, where all of them together are above chance."""
        members = [at for part in these for at in parts[part]]
        return {part for part in these if told[parts[part]].sum() > 0} if above(members) else set()

    found = {part for part, members in parts.items() if above(members)}
    for task in {task for task, _ in parts}:
        found |= together({part for part in parts if part[0] == task})
    found |= together(parts.keys() - found)
    return {part: 0.5 + float(told[parts[part]].mean()) for part in sorted(found)}


def _stay(right_U: np.ndarray) -> np.ndarray:
    """The probability with which each unit stays, by that which the probe gives what was judged (NaN: not known)."""
    stays_U = np.ones(len(right_U))
    known = np.flatnonzero(~np.isnan(right_U))
    order = known[np.argsort(np.abs(right_U[known] - 0.5), kind="stable")]
    for alike in np.array_split(order, max(1, min(SURENESS, len(order) // FEWEST))):
        told, missed = alike[right_U[alike] > 0.5 + EVEN], np.count_nonzero(right_U[alike] < 0.5 - EVEN)
        if len(told) > missed:
            stays_U[told] = missed / len(told)
    return stays_U


def _batches(view: View, subjects: np.ndarray) -> Iterator[list[Pair]]:
    """The pairs of these records, some at a time."""
    splits, batch = view.split, list[Pair]()
    for index, row in zip(np.flatnonzero(subjects).tolist(), view.rows(subjects), strict=True):
        batch += pairs_of(row, splits[index], index)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
