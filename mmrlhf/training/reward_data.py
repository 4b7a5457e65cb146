"""The reward stage's preferences: those that are learnt from, in their order, and those that are held out, to fit
temperatures on and to measure sources by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord
from data_tools.shards import RecordSet, open_records
from data_tools.splits import components, held_out
from mmrlhf.config import AdaptiveMixture, RewardConfig
from mmrlhf.rewards.calibration import LEAST_PAIRS, enough_to_calibrate
from mmrlhf.rewards.grounding import decided
from mmrlhf.training.feed import Feed, open_feed
from mmrlhf.training.grounding import Lenders
from mmrlhf.training.reward_labels import learnt_part
from mmrlhf.training.units import UnitFeed, open_unit_feed


def _outlined(records: RecordSet) -> Iterator[PreferenceRecord]:
    """Each record without its images, one at a time: only what it hangs together by is kept of a million."""
    return (records.outline(index) for index in range(len(records)))


class RewardData:
    """The training preferences of a data set."""

    def __init__(self, data: str, config: RewardConfig, seed: int) -> None:
        """Raises UserError where there are none, or none would be left."""
        self.path, self.config = Path(data), config
        opened = open_unit_feed if config.grounding.flips else open_feed
        self.feed: Feed = opened(data, "train", ["preference"], seed)
        if isinstance(self.feed, UnitFeed) and not self.feed.partners:
            raise UserError(
                f"reward.grounding.flips: must be 0, since the train split of {data} has no image-flip pair (two "
                "records of a source with the same flip in their provenance, such as the recipe flip_pairs makes)"
            )
        self._records = self.feed.records
        self._kept: Sequence[int] = range(len(self._records))
        self._calibrating: list[int] = []
        self._measured: list[int] = []
        self.uncalibrated: dict[str, int] = {}  # objectives without enough to calibrate with -> their pairs
        if config.calibrate or isinstance(config.mixture, AdaptiveMixture):
            self._hold_out(self._outlines())
            self.feed = self.feed.only(self._kept)

    def _hold_out(self, read: RecordSet) -> None:
        calibrate, mixture = self.config.calibrate, self.config.mixture
        out: set[int] = set()
        if calibrate:
            self._calibrating = [
                index for index, held in enumerate(held_out(_outlined(read), calibrate)) if held
            ]
            out |= {*self._calibrating}
            self._check("calibrate", self._calibrating, len(read) - len(out), "set it to 0")
            self.uncalibrated = self._too_few(read)
        if isinstance(mixture, AdaptiveMixture):
            self._measured, apart = self._measurable(read, mixture)
            out |= apart
            way = "set another share, or reward.mixture to fixed"
            self._check("mixture.held_out", self._measured, len(read) - len(out), way)
        self._kept = [index for index in range(len(read)) if index not in out]

    def _too_few(self, read: RecordSet) -> dict[str, int]:
        """The objectives that the records to calibrate with can give no temperature, and how many pairs each has.

        Raises:
            UserError: no objective gets one.
        """
        held = [read.outline(index) for index in self._calibrating]
        groups: dict[str, list[int]] = {name: [] for name in self.config.objectives}
        for record, group in zip(held, components(held), strict=True):
            for pair in decided(record):
                if pair.objective in groups:
                    groups[pair.objective].append(group)
        few = {name: len(of) for name, of in groups.items() if not enough_to_calibrate(of)}
        if len(few) == len(groups):
            raise UserError(
                f"reward.calibrate: of the {len(held)} records that it holds out, {self._told(few)} are decided pairs, "
                f"and a temperature takes {LEAST_PAIRS} that don't all hang together; set a larger share, or 0"
            )
        return few

    @staticmethod
    def _told(few: dict[str, int]) -> str:
        return ", ".join(f"{count} of {name}" for name, count in few.items())

    def advice(self) -> list[str]:
        """What may be meant of what is held out, and is worth a word."""
        if not self.uncalibrated:
            return []
        return [
            f"reward.calibrate: {', '.join(self.uncalibrated)} can get no temperature: of the held-out pairs, "
            f"{self._told(self.uncalibrated)} are decided, and it takes {LEAST_PAIRS} that don't all hang together"
        ]

    def _check(self, key: str, held: Sequence[int], left: int, way: str) -> None:
        if not (held and left):
            raise UserError(
                f"reward.{key}: records that share a picture, a question or a group stay together, which in "
                f"{self.path} leaves {left} to train on and {len(held)} to hold out; {way}"
            )

    def _measurable(self, read: RecordSet, mixture: AdaptiveMixture) -> tuple[list[int], set[int]]:
        """Records that say something of their sources, well mixed, at most as many of each as are asked for; and all
        that hangs together with them."""
        drawn, group = held_out(_outlined(read), mixture.held_out), components(_outlined(read))
        strata = read.strata
        counts: Counter[str] = Counter()
        sample: list[int] = []
        for index in self.feed.each_once():
            source = strata[index][0]
            if not (drawn[index] and counts[source] < mixture.most):
                continue
            if any(decided(learnt_part(read.outline(index), self.config))):
                sample.append(index)
                counts[source] += 1
        chosen = {group[index] for index in sample}
        return sample, {index for index in range(len(read)) if group[index] in chosen}

    def _outlines(self) -> RecordSet:
        return open_records(self.path, "train", kind="preference")

    def lenders(self) -> Lenders:
        """Those that are learnt from, by how many images they have; empty where no images are swapped."""
        settings = self.config.grounding.image_conditional
        if not settings.weight or "swap" not in settings.kinds:
            return {}
        counts = self._outlines().image_counts
        found: dict[int, list[int]] = {}
        for index in self._kept:
            found.setdefault(counts[index], []).append(index)
        records: Any = self._records
        return {count: Subset(records, indices) for count, indices in found.items()}  # type: ignore[misc]

    def in_order(self) -> Iterable[PreferenceRecord]:
        """Those that are learnt from, well mixed."""
        return (self._records[self._kept[index]] for index in self.feed.each_once())

    def held_out(self) -> Iterable[PreferenceRecord]:
        """Those that are kept out of training to calibrate with."""
        return (self._records[index] for index in self._calibrating)

    def measured(self) -> Sequence[PreferenceRecord]:
        """Those that sources are measured by, read from disk as they are asked for; none for a fixed mixture."""
        records: Any = self._records
        return Subset(records, self._measured)  # type: ignore[return-value]

    def held_together(self) -> dict[tuple[str, str], int]:
        """Of those, by source and id, a number that all that hang together have in common."""
        outlines = self._outlines()
        held = [outlines.outline(index) for index in self._calibrating]
        return {
            (record.source, record.id): number for record, number in zip(held, components(held), strict=True)
        }

    def overall(self) -> Iterable[PreferenceRecord]:
        """Those that teach the gate, at most as many as it asks for, well mixed."""
        gate = self.config.gate
        assert gate is not None
        outlines = self._outlines()
        order = (self._kept[index] for index in self.feed.each_once())
        found = (i for i in order if any(c.objective == gate.objective for c in outlines.outline(i).pairs()))
        return (self._records[index] for index in islice(found, gate.most))
