"""What the blind probe solves is thinned out until it solves no more than chance.

The probe (`data_tools.audits.probe`) gives each pair the probability p that its better answer is the better one, as far
as words tell. Of the pairs of a source and split of which it is about as sure, a share a is told right; where it tells
more than chance would, each of these stays with probability (1 - a) / a, so that as many are expected to be told right
as wrong, and the words that made it sure say nothing any more. This evens out what a filter with a threshold would turn
into its opposite (dropping all that is told right leaves what is told wrong), and so would p in the place of a, as
probes are surer than they are right. As a new probe may find what the first one missed, it is fitted again on what is
left, up to `rounds` times (the repetition is that of AFLite, R. Le Bras et al., Adversarial Filters of Dataset Biases,
2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from data_tools.audits import probe
from data_tools.audits.pairs import Pair, PairSample, pairs_of
from data_tools.parts.units import luck, units
from data_tools.remedies.base import Selective, View
from data_tools.schema import Modality

BATCH = 2000  # records whose pairs are held at a time
SURENESS = 10  # degrees of it that are told apart at most, of no fewer units than FEWEST
FEWEST = 40
ENOUGH = 1.96  # standard errors from one half: as good as chance


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
        for number in range(self.rounds):
            right_U, unit_N = self._probed(view, seed + number)
            part_U = _parts(view, unit_N)
            better_than_chance = [
                members
                for part in range(part_U.max(initial=-1) + 1)
                if _told(right_U[members := np.flatnonzero(part_U == part)])
            ]
            if not better_than_chance:
                return
            if self.drop_above is not None:
                gone_U = np.nan_to_num(right_U, nan=0.5) > self.drop_above
                gone_U &= np.isin(np.arange(len(gone_U)), np.concatenate(better_than_chance))
                view.drop(gone_U[unit_N], "the blind probe solves it")
                return
            stays_U = np.ones(len(right_U))
            for members in better_than_chance:
                stays_U[members] = _stay(right_U[members])
            chance_N = luck(view.index, seed, f"blind_probe {number}") / 2**64
            view.drop(chance_N >= stays_U[unit_N], "the blind probe solves it")

    def _probed(self, view: View, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """The mean probability of what was judged, by unit; NaN where nothing is known; and each record's unit.

        Both of a flip pair have one mean: what tells one right tells the other wrong.
        """
        unit_N = units(view.index)
        subjects = self.subjects(view)
        sample = PairSample(self.max_pairs, seed)
        splits = view.split
        for index, row in enumerate(view.rows()):
            if subjects[index]:
                # one probe for all splits, each pair judged without what hangs together with it
                sample.see(splits[index], index, row)
        fitted = probe.fit(sample.pairs(), seed=seed)
        total, number = np.zeros(unit_N.max(initial=-1) + 1), np.zeros(unit_N.max(initial=-1) + 1)
        for batch in _batches(view, subjects):
            first = fitted.probability(batch)
            right = np.where([pair.better == 0 for pair in batch], first, 1 - first)
            owner = unit_N[[pair.place for pair in batch]]
            np.add.at(total, owner, np.nan_to_num(right))
            np.add.at(number, owner, ~np.isnan(right))
        with np.errstate(invalid="ignore"):
            return total / np.where(number > 0, number, np.nan), unit_N


def _parts(view: View, unit_N: np.ndarray) -> np.ndarray:
    """A number for each unit, the same for those of a source, modality and split."""
    _, split_N = np.unique(view.split.astype(str), return_inverse=True)
    looks = np.stack([view["source"], view["modality"], split_N])
    part_U = np.zeros(unit_N.max(initial=-1) + 1, np.int64)
    part_U[unit_N] = np.unique(looks, axis=1, return_inverse=True)[1].reshape(-1)
    return part_U


def _told(right_U: np.ndarray) -> bool:
    """Whether more are told right than chance would have it; `right_U` as in `_stay`."""
    known = right_U[~np.isnan(right_U)]
    told = (known > 0.5) + (known == 0.5) / 2
    return len(known) > 0 and bool(told.mean() > 0.5 + ENOUGH * 0.5 / np.sqrt(len(known)))


def _stay(right_U: np.ndarray) -> np.ndarray:
    """The probability with which each unit stays, by that which the probe gives what was judged (NaN: not known)."""
    stays_U = np.ones(len(right_U))
    known = np.flatnonzero(~np.isnan(right_U))
    order = known[np.argsort(np.abs(right_U[known] - 0.5), kind="stable")]
    for alike in np.array_split(order, max(1, min(SURENESS, len(order) // FEWEST))):
        told, missed = alike[right_U[alike] > 0.5], np.count_nonzero(right_U[alike] < 0.5)
        if len(told) > missed:
            stays_U[told] = missed / len(told)
    return stays_U


def _batches(view: View, subjects: np.ndarray) -> Iterator[list[Pair]]:
    """The pairs of the view's records, some at a time."""
    splits, batch = view.split, list[Pair]()
    for index, row in enumerate(view.rows()):
        if subjects[index]:
            batch += pairs_of(row, splits[index], index)
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
