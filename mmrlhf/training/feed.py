"""Records in an order that is a function of seed and position, so that resuming needs no state but a step number."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from accelerate import Accelerator
from torch.utils.data import ConcatDataset, Subset

from data_tools.balance.adaptive import Planned
from data_tools.balance.mixture import Label, Labels, Layout, Mixture, Segment, Stratum
from data_tools.errors import PromptRefused, UserError
from data_tools.images import ImageError
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind, RecordSet, open_records
from mmrlhf.terminal import console
from mmrlhf.training.processes import everyones, total

S = TypeVar("S")
T = TypeVar("T")
SHOWN = 5  # of what is left out, by name
AT_LEAST = 100  # records that a share is taken of: the first few are no measure


class Shown(NamedTuple):
    """A record by its index, and which pass over the records of its stratum it is of."""

    record: int
    epoch: int


class Feed:
    """An endless, exactly repeatable sequence of records; every stretch of it is mixed like the whole."""

    slot_size = 1  # records at a position

    def __init__(self, records: Sequence[PreferenceRecord], labels: Sequence[Label], seed: int) -> None:
        """`labels`: each record's.

        Raises:
            UserError: an epoch shows none of them.
        """
        self.records, self.labels, self.seed = records, labels, seed
        self.layout = Layout(labels)
        self.mixture = planned_mixture(self.layout.strata(), seed)

    def __len__(self) -> int:
        """Records that an epoch shows, as the data set plans it."""
        return self.mixture.period

    def positions(self, epochs: float) -> int:
        """How many positions, from the first on, show all that so many epochs show."""
        # of the number as it is written: 1.1 times 10 is 11, not a little more
        return math.ceil(Fraction(str(epochs)) * len(self) / self.slot_size)

    def steps(self, epochs: float, batch_size: int) -> int:
        """How many batches show all that so many epochs show; the last one may run into the next epoch."""
        return math.ceil(self.positions(epochs) * self.slot_size / batch_size)

    @property
    def strata(self) -> dict[str, Planned]:
        """What is mixed, by name."""
        return planned(self.layout, self.mixture.strata)

    def extend(self, segment: Segment) -> None:
        """Mixes otherwise from a position on; `segment` has the draws of `strata`.

        Raises:
            ValueError: it begins before an earlier one, or names what isn't there.
        """
        self.mixture.extend(segment)

    def only(self, indices: Sequence[int]) -> Feed:
        """A feed of some of the records."""
        records: Any = Subset(self.records, indices)  # type: ignore[arg-type]
        return Feed(records, [self.labels[index] for index in indices], self.seed)

    def each_once(self) -> Iterator[int]:
        """Every record once, well mixed, however often an epoch shows it."""
        return self.layout.each_once(self.seed)

    def outline(self, index: int) -> PreferenceRecord:
        """A record with its images named but not read, for a look at what it says."""
        return _outline(self.records, index)

    def slot(self, position: int) -> tuple[Shown, ...]:
        """What stands at a position: `slot_size` records."""
        draw = self.mixture.at(position)
        return (Shown(self.layout.record(draw.stratum, draw.row), draw.showing),)

    def at(self, positions: Iterable[int]) -> list[PreferenceRecord]:
        """The records at some positions."""
        return [self.records[shown.record] for position in positions for shown in self.slot(position)]

    def batch(self, step: int, size: int, accelerator: Accelerator) -> list[PreferenceRecord]:
        """This process's share of batch number `step`, which holds `size` records, a multiple of `slot_size`."""
        return self.at(share(step, size // self.slot_size, accelerator))

    def epochs(self, step: int, size: int, accelerator: Accelerator) -> list[int]:
        """Which pass over the data each record of `batch` is of."""
        positions = share(step, size // self.slot_size, accelerator)
        return [shown.epoch for position in positions for shown in self.slot(position)]


def _outline(records: Any, index: int) -> PreferenceRecord:
    """`RecordSet.outline` of records that were joined, or of some of them."""
    if isinstance(records, Subset):
        return _outline(records.dataset, records.indices[index])
    if isinstance(records, ConcatDataset):
        place = bisect_right(records.cumulative_sizes, index)
        begin = records.cumulative_sizes[place - 1] if place else 0
        return _outline(records.datasets[place], index - begin)
    outline: PreferenceRecord = records.outline(index)
    return outline


def tell_repeats(name: str, feed: Feed, batch_size: int, accelerator: Accelerator) -> None:
    """Tells of batches that are larger than an epoch, so that a stage shows more than its epochs."""
    if batch_size > len(feed) and accelerator.is_main_process:
        console.print(
            f"{name}: each batch of {batch_size} shows the {len(feed)} records of an epoch more than once; with a "
            "batch_size of no more than that it wouldn't",
            style="yellow",
            markup=False,
        )


def planned(layout: Layout, strata: Sequence[Stratum], width: int = 1) -> dict[str, Planned]:
    """A layout's strata by name, each with its source; a draw of one shows `width` records."""
    return {
        own.name: Planned(label.source, own.rows * width, own.draws, width)
        for own, label in zip(strata, layout.labels, strict=True)
    }


def planned_mixture(strata: Sequence[Stratum], seed: int) -> Mixture:
    """A mixture of strata of a data set.

    Raises:
        UserError: nothing is drawn of any of them.
    """
    if not any(stratum.draws for stratum in strata):
        names = ", ".join(stratum.name for stratum in strata) or "no record"
        raise UserError(
            f"an epoch shows nothing of {names}; the data set's manifest says how often it repeats each"
        )
    return Mixture(strata, seed)


def share(step: int, size: int, accelerator: Accelerator) -> range:
    """The positions of batch number `step` that are this process's: every n-th of it."""
    return range(step * size, (step + 1) * size)[accelerator.process_index :: accelerator.num_processes]


def open_feed(folder: str, split: str, kinds: Sequence[Kind], seed: int) -> Feed:
    """A feed of a split's records of some kinds.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets, labels = open_kinds(folder, split, kinds)
    records: Any = ConcatDataset(sets)  # type: ignore[arg-type]
    return Feed(records, labels, seed)


def open_kinds(folder: str, split: str, kinds: Sequence[Kind]) -> tuple[list[RecordSet], Labels]:
    """A split's records, kind by kind, and the label of each.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets = [open_records(folder, split, kind=kind) for kind in dict.fromkeys(kinds)]
    told = (zip(part.strata, part.repeats, strict=True) for part in sets)
    return sets, Labels(Label(*stratum, repeat) for part in told for stratum, repeat in part)


class Refusals:
    """What can't be trained on is left out: told by name (the first few), counted, and bounded."""

    def __init__(
        self, most: float, what: str = "record", quiet: bool = False, remedy: str = PromptRefused.remedy
    ) -> None:
        """`most`: the share that may be left out, of at least `AT_LEAST`; `quiet`: they were told of before; `remedy`:
        what to do where there are too many, unless the reason says otherwise."""
        self.most, self.what, self.quiet, self.remedy = most, what, quiet, remedy
        self.refused = self.seen = 0
        self._last = ("", remedy)

    def keep(self, records: Sequence[S], encode: Callable[[S], T], again: bool = False) -> list[T]:
        """`encode` of each record, without those whose prompt can't be used or whose image can't be read. `again`: they
        are among those that were counted before."""
        kept: list[T] = []
        for record in records:
            self.seen += not again
            try:
                kept.append(encode(record))
            except (PromptRefused, ImageError) as error:
                self.refuse(str(error), getattr(error, "remedy", ""))
        return kept

    def refuse(self, why: str, remedy: str = "") -> None:
        """Counts one that is left out."""
        self.refused, self._last = self.refused + 1, (why, remedy or self.remedy)
        if self.refused <= SHOWN and not self.quiet:
            more = "; more are only counted, as a share in the metrics" if self.refused == SHOWN else ""
            console.print(f"left out: {why}{more}", style="yellow", markup=False)

    def check(self, accelerator: Accelerator) -> None:
        """Sees that all processes together, each of which must call it, haven't left out too much.

        Raises:
            UserError: they have; on every process.
        """
        counts = everyones(accelerator, (self.refused, self.seen, self._last))
        refused, seen = sum(c[0] for c in counts), sum(c[1] for c in counts)
        self._last = next((c[2] for c in counts if c[2][0]), self._last)
        if refused > self.most * max(seen, AT_LEAST):
            raise UserError(f"{refused} of {seen} {self.what}s had to be left out; {self._advice()}")

    def none_left(self) -> UserError:
        """What to raise where a whole batch was left out."""
        return UserError(f"every {self.what} of a batch had to be left out; {self._advice()}")

    def _advice(self) -> str:
        why, remedy = self._last
        return (
            f"the last: {why}. {remedy[0].upper()}{remedy[1:]}; max_refused is the share that may be left out"
        )

    def state_dict(self, accelerator: Accelerator) -> dict[str, Any]:
        """The counts of all processes, each of which must call it, as JSON values."""
        return {name: int(total(accelerator, getattr(self, name))) for name in ("refused", "seen")}

    def load_state_dict(self, state: dict[str, Any], accelerator: Accelerator) -> None:
        """Takes back what `state_dict` gave; the main process counts on for all."""
        if accelerator.is_main_process:
            self.refused, self.seen = state["refused"], state["seen"]
