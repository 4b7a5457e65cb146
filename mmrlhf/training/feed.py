"""Records in an order that is a function of seed and position, so that resuming needs no state but a step number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate import Accelerator
from torch.utils.data import ConcatDataset

from data_tools.balance.order import epoch_order
from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind, open_records
from mmrlhf.models.batch import PromptTooLong

T = TypeVar("T")


class Feed:
    """An endless, exactly repeatable sequence of records; every stretch of it is mixed like the whole."""

    def __init__(
        self, records: Sequence[PreferenceRecord], strata: Sequence[tuple[str, str]], seed: int
    ) -> None:
        self.records, self.strata, self.seed = records, strata, seed
        self._epoch, self._order = -1, [0]

    def __len__(self) -> int:
        return len(self.records)

    def index(self, position: int) -> int:
        """The record that stands at a position; position // len is the epoch."""
        epoch, place = divmod(position, len(self.records))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.strata, self.seed, epoch)
        return self._order[place]

    def batch(self, step: int, size: int, accelerator: Accelerator) -> list[PreferenceRecord]:
        """This process's share of batch number `step` (every n-th record of it)."""
        positions = range(step * size, (step + 1) * size)
        share = positions[accelerator.process_index :: accelerator.num_processes]
        return [self.records[self.index(position)] for position in share]


def open_feed(folder: str, split: str, kinds: Sequence[Kind], seed: int) -> Feed:
    """A feed of a split's records of some kinds.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets = [open_records(folder, split, kind=kind) for kind in kinds]
    return Feed(ConcatDataset(sets), [stratum for part in sets for stratum in part.strata], seed)  # type: ignore[arg-type]


class Refusals:
    """Encodes records, leaving out those whose prompt is too long, and counts these."""

    def __init__(self, limit: int) -> None:
        self.limit, self.refused, self.seen = limit, 0, 0

    def keep(self, records: Sequence[PreferenceRecord], encode: Callable[[PreferenceRecord], T]) -> list[T]:
        """`encode` of each record that fits.

        Raises:
            UserError: none of the batch fits.
        """
        kept: list[T] = []
        for record in records:
            self.seen += 1
            try:
                kept.append(encode(record))
            except PromptTooLong:
                self.refused += 1
        if records and not kept:
            raise UserError(
                f"all {len(records)} prompts of a batch are longer than max_prompt_tokens {self.limit}: raise it, "
                "or set model.max_pixels so that an image takes fewer tokens"
            )
        return kept
