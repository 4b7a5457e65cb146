"""A feed in which both records of an image-flip pair come together, in one batch and on one process.

The order stays a function of seed, epoch and position. What it orders are slots of two records: a flip pair fills one,
and of all other records each two that follow one another do. So a batch of an even size always holds whole pairs, and
no batch hangs on what an earlier one took.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator
from torch.utils.data import ConcatDataset, Subset

from data_tools.balance.order import epoch_order
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind, open_records
from mmrlhf.training.feed import Feed, share

Slot = tuple[int, ...]  # one or two records, by their index


class UnitFeed(Feed):
    """A feed whose batches hold flip pairs whole."""

    def __init__(
        self,
        records: Sequence[PreferenceRecord],
        strata: Sequence[tuple[str, str]],
        seed: int,
        flips: Sequence[str | None],
    ) -> None:
        """`flips`: for each record the pair that it is a half of, None for those of none."""
        super().__init__(records, strata, seed)
        self.flips = flips
        self.units = flip_units(strata, flips)
        # halves of pairs are mixed apart from the other records of their source
        self._unit_strata = [(f"{strata[unit[0]][0]}/{len(unit)}", strata[unit[0]][1]) for unit in self.units]
        singles = sum(len(unit) == 1 for unit in self.units)
        self.slots = len(self.units) - singles + (singles + 1) // 2  # of an epoch
        self._slots_of, self._slots = -1, list[Slot]()

    def only(self, indices: Sequence[int]) -> UnitFeed:
        """A feed of some of the records."""
        records: Any = Subset(self.records, indices)  # type: ignore[arg-type]
        strata = [self.strata[index] for index in indices]
        return UnitFeed(records, strata, self.seed, [self.flips[index] for index in indices])

    def slot(self, position: int) -> Slot:
        """The records of a slot; position // slots is the epoch."""
        epoch, place = divmod(position, self.slots)
        if epoch != self._slots_of:
            order = epoch_order(self._unit_strata, self.seed, epoch)
            self._slots_of, self._slots = epoch, _paired([self.units[index] for index in order])
        return self._slots[place]

    def batch(self, step: int, size: int, accelerator: Accelerator) -> list[PreferenceRecord]:
        """This process's share of batch number `step`, the halves of a flip pair one after the other.

        `size` is even; a batch has one record fewer where an epoch has a record over.
        """
        slots = [self.slot(position) for position in share(step, size // 2, accelerator)]
        return [self.records[index] for slot in slots for index in slot]

    def epochs(self, step: int, size: int, accelerator: Accelerator) -> list[int]:
        """Which pass over the data each record of `batch` is of."""
        positions = share(step, size // 2, accelerator)
        return [position // self.slots for position in positions for _ in self.slot(position)]


def flip_units(strata: Sequence[tuple[str, str]], flips: Sequence[str | None]) -> list[Slot]:
    """The records by index, the two of a flip pair of one source together, at the place of the first; a half without
    its other half stands alone."""
    members: dict[tuple[str, str], list[int]] = {}
    for index, flip in enumerate(flips):
        if flip is not None:
            members.setdefault((strata[index][0], flip), []).append(index)
    pairs = {found[0]: tuple(found) for found in members.values() if len(found) == 2}
    behind = {pair[1] for pair in pairs.values()}
    return [pairs.get(index, (index,)) for index in range(len(flips)) if index not in behind]


def open_unit_feed(folder: str, split: str, kinds: Sequence[Kind], seed: int) -> UnitFeed:
    """As `open_feed`; reads every record's JSON for the flip pair that it names, but no image.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets = [open_records(folder, split, kind=kind) for kind in kinds]
    named = [part.meta(index)["provenance"].get("flip") for part in sets for index in range(len(part))]
    records: Any = ConcatDataset(sets)  # type: ignore[arg-type]
    strata = [stratum for part in sets for stratum in part.strata]
    return UnitFeed(records, strata, seed, [flip if isinstance(flip, str) else None for flip in named])


def _paired(units: Sequence[Slot]) -> list[Slot]:
    """Slots in the order of units: each two single records in a row share one, at the place of the first."""
    slots: list[Slot] = []
    waiting: int | None = None  # the slot of a single record that has room
    for unit in units:
        if len(unit) == 1 and waiting is not None:
            slots[waiting] += unit
            waiting = None
        else:
            if len(unit) == 1:
                waiting = len(slots)
            slots.append(unit)
    return slots
