"""A feed in which both records of an image-flip pair come together, in one batch and on one process.

The order stays a function of seed and position. What it orders are slots of two records: a flip pair fills one, and of
all other records, mixed among themselves, each two that follow one another do. So a batch of an even size always holds
whole pairs, and no batch hangs on what an earlier one took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from data_tools.balance.adaptive import Planned
from data_tools.balance.mixture import Label, Layout, Mixture, Segment, Stratum
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind
from mmrlhf.training.feed import Feed, Shown, open_kinds, planned, planned_mixture

PAIRS, SINGLES = "/pairs", "singles"  # a stratum of pairs, behind its label; all other records as one stratum


class UnitFeed(Feed):
    """A feed whose batches hold flip pairs whole; its positions are slots of two records."""

    slot_size = 2

    def __init__(
        self,
        records: Sequence[PreferenceRecord],
        labels: Sequence[Label],
        seed: int,
        flips: Sequence[str | None],
    ) -> None:
        """`flips`: for each record the pair that it is a half of, None for those of none.

        Raises:
            UserError: an epoch shows none of the records.
        """
        super().__init__(records, labels, seed)
        self.flips = flips
        self.partners = flip_pairs(labels, flips)
        behind = set(self.partners.values())
        self.pairs = Layout(label if i in self.partners else None for i, label in enumerate(labels))
        alone = (i not in self.partners and i not in behind for i in range(len(flips)))
        self.singles = Layout(label if own else None for label, own in zip(labels, alone, strict=True))
        self._pairs, self._singles = _named(self.pairs, PAIRS), _named(self.singles)
        singles = sum(stratum.draws for stratum in self._singles)
        # a pair fills a slot and a single record half of one, so two epochs hold whole slots, whatever there is of each
        slots = [replace(stratum, draws=2 * stratum.draws) for stratum in self._pairs]
        self.mixture = planned_mixture([*slots, Stratum(SINGLES, 1, singles)], seed)
        self._inner = Mixture(self._singles, seed) if singles else None

    def __len__(self) -> int:
        return self.mixture.period  # of two epochs, in slots

    def positions(self, epochs: float) -> int:
        number = super().positions(epochs)
        singles = sum(stratum.draws for stratum in self._singles)
        # a slot that lies across the end of an epoch may come after a pair of the next one
        while 2 * self.mixture.counts(number)[-1] < Fraction(str(epochs)) * singles:
            number += 1
        return number

    @property
    def strata(self) -> dict[str, Planned]:
        """Pairs are told apart from the other records of their label, and drawn whole."""
        return planned(self.pairs, self._pairs, 2) | planned(self.singles, self._singles)

    def only(self, indices: Sequence[int]) -> UnitFeed:
        """A feed of some of the records."""
        records: Any = Subset(self.records, indices)  # type: ignore[arg-type]
        labels = [self.labels[index] for index in indices]
        return UnitFeed(records, labels, self.seed, [self.flips[index] for index in indices])

    def extend(self, segment: Segment) -> None:
        slots = {stratum.name: 2 * segment.draws.get(stratum.name, 0) for stratum in self._pairs}
        singles = {stratum.name: segment.draws.get(stratum.name, 0) for stratum in self._singles}
        self.mixture.extend(Segment(segment.start, slots | {SINGLES: sum(singles.values())}))
        if self._inner and any(singles.values()):
            self._inner.extend(Segment(2 * self.mixture.counts(segment.start)[-1], singles))

    def slot(self, position: int) -> tuple[Shown, ...]:
        """The two records of a slot, the halves of a flip pair one after the other."""
        draw = self.mixture.at(position)
        if draw.stratum < len(self._pairs):
            first = self.pairs.record(draw.stratum, draw.row)
            return Shown(first, draw.showing), Shown(self.partners[first], draw.showing)
        assert self._inner is not None
        # of one row, so its passes are the slots of single records before this one
        both = map(self._inner.at, (2 * draw.showing, 2 * draw.showing + 1))
        one, other = (Shown(self.singles.record(own.stratum, own.row), own.showing) for own in both)
        return one, other


def _named(layout: Layout, behind: str = "") -> list[Stratum]:
    return [replace(stratum, name=stratum.name + behind) for stratum in layout.strata()]


def flip_pairs(labels: Sequence[Label], flips: Sequence[str | None]) -> dict[int, int]:
    """By the first record of each flip pair of one source, the second; a half without its other half stands alone."""
    members: dict[tuple[str, str], list[int]] = {}
    for index, (label, flip) in enumerate(zip(labels, flips, strict=True)):
        if flip is not None:
            members.setdefault((label.source, flip), []).append(index)
    return {found[0]: found[1] for found in members.values() if len(found) == 2}


def open_unit_feed(folder: str, split: str, kinds: Sequence[Kind], seed: int) -> UnitFeed:
    """As `open_feed`; reads every record's JSON for the flip pair that it names, but no image.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets, labels = open_kinds(folder, split, kinds)
    named = [part.meta(index)["provenance"].get("flip") for part in sets for index in range(len(part))]
    records: Any = ConcatDataset(sets)  # type: ignore[arg-type]
    return UnitFeed(records, labels, seed, [flip if isinstance(flip, str) else None for flip in named])
