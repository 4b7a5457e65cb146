"""Records in an order that is a function of seed and position, so that resuming needs no state but a step number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from accelerate import Accelerator
from torch.utils.data import ConcatDataset, Subset

from data_tools.balance.order import epoch_order
from data_tools.errors import PromptRefused, UserError
from data_tools.images import ImageError
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind, open_records
from mmrlhf.terminal import console
from mmrlhf.training.processes import everyones, total

S = TypeVar("S")
T = TypeVar("T")
SHOWN = 5  # of what is left out, by name
AT_LEAST = 100  # records that a share is taken of: the first few are no measure


class Feed:
    """An endless, exactly repeatable sequence of records; every stretch of it is mixed like the whole."""

    def __init__(
        self, records: Sequence[PreferenceRecord], strata: Sequence[tuple[str, str]], seed: int
    ) -> None:
        self.records, self.strata, self.seed = records, strata, seed
        self._epoch, self._order = -1, [0]

    def __len__(self) -> int:
        return len(self.records)

    def only(self, indices: Sequence[int]) -> Feed:
        """A feed of some of the records."""
        records: Any = Subset(self.records, indices)  # type: ignore[arg-type]
        return Feed(records, [self.strata[index] for index in indices], self.seed)

    def index(self, position: int) -> int:
        """The record that stands at a position; position // len is the epoch."""
        epoch, place = divmod(position, len(self.records))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.strata, self.seed, epoch)
        return self._order[place]

    def at(self, positions: Iterable[int]) -> list[PreferenceRecord]:
        """The records at some positions."""
        return [self.records[self.index(position)] for position in positions]

    def batch(self, step: int, size: int, accelerator: Accelerator) -> list[PreferenceRecord]:
        """This process's share of batch number `step`."""
        return self.at(share(step, size, accelerator))

    def epochs(self, step: int, size: int, accelerator: Accelerator) -> list[int]:
        """Which pass over the data each record of `batch` is of."""
        return [position // len(self) for position in share(step, size, accelerator)]


def share(step: int, size: int, accelerator: Accelerator) -> range:
    """The positions of batch number `step` that are this process's: every n-th of it."""
    return range(step * size, (step + 1) * size)[accelerator.process_index :: accelerator.num_processes]


def open_feed(folder: str, split: str, kinds: Sequence[Kind], seed: int) -> Feed:
    """A feed of a split's records of some kinds.

    Raises:
        UserError: the split holds no record of a kind.
    """
    sets = [open_records(folder, split, kind=kind) for kind in kinds]
    return Feed(ConcatDataset(sets), [stratum for part in sets for stratum in part.strata], seed)  # type: ignore[arg-type]


class Refusals:
    """What can't be trained on is left out: told by name (the first few), counted, and bounded."""

    def __init__(self, most: float, what: str = "record", quiet: bool = False) -> None:
        """`most`: the share that may be left out, of at least `AT_LEAST`; `quiet`: they were told of before."""
        self.most, self.what, self.quiet = most, what, quiet
        self.refused = self.seen = 0
        self._last = ""

    def keep(self, records: Sequence[S], encode: Callable[[S], T], again: bool = False) -> list[T]:
        """`encode` of each record, without those whose prompt can't be used or whose image can't be read. `again`: they
        are among those that were counted before."""
        kept: list[T] = []
        for record in records:
            self.seen += not again
            try:
                kept.append(encode(record))
            except (PromptRefused, ImageError) as error:
                self.refuse(str(error))
        return kept

    def refuse(self, why: str) -> None:
        """Counts one that is left out."""
        self.refused, self._last = self.refused + 1, why
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
        self._last = next((c[2] for c in counts if c[2]), "")
        if refused > self.most * max(seen, AT_LEAST):
            raise UserError(f"{refused} of {seen} {self.what}s had to be left out; {self._advice()}")

    def none_left(self) -> UserError:
        """What to raise where a whole batch was left out."""
        return UserError(f"every {self.what} of a batch had to be left out; {self._advice()}")

    def _advice(self) -> str:
        return (
            f"the last: {self._last}. Raise max_prompt_tokens, set model.max_pixels so that an image takes fewer "
            "tokens, or mend the data; max_refused is the share that may be left out"
        )

    def state_dict(self, accelerator: Accelerator) -> dict[str, Any]:
        """The counts of all processes, each of which must call it, as JSON values."""
        return {name: int(total(accelerator, getattr(self, name))) for name in ("refused", "seen")}

    def load_state_dict(self, state: dict[str, Any], accelerator: Accelerator) -> None:
        """Takes back what `state_dict` gave; the main process counts on for all."""
        if accelerator.is_main_process:
            self.refused, self.seen = state["refused"], state["seen"]
