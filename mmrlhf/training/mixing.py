"""A mixture that changes as the reward model learns: every so many steps it is measured, source by source, with the
image and without, and the shares of the sources change as `data_tools/balance/adaptive.py` has it.

What was decided stands in `mixture.jsonl` in the stage's folder before a batch is drawn by it. A run that goes on reads
it there, and draws the records of one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from data_tools.balance.adaptive import Measured, adapted, draws_of, planned_shares
from data_tools.balance.schedule import Entry, append, keep_before
from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.config import AdaptiveMixture, RewardConfig
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.rewards.grounding import decided
from mmrlhf.rewards.model import RewardModel
from mmrlhf.training.cut_answers import without_same
from mmrlhf.training.feed import Feed
from mmrlhf.training.processes import everyones
from mmrlhf.training.reward_finish import Reader
from mmrlhf.training.reward_labels import Item, learnt_part
from mmrlhf.types import Row, Sums

FILE = "mixture.jsonl"


class AdaptiveFeed:
    """Changes the shares of a feed's sources by what a reward model gets right on held-out records."""

    def __init__(
        self,
        rule: AdaptiveMixture,
        config: RewardConfig,
        feed: Feed,
        sample: Sequence[PreferenceRecord],
        reward_model: RewardModel,
        encode: Callable[[PreferenceRecord], Item],
        accelerator: Accelerator,
    ) -> None:
        """`sample`: what is measured on, each of which `encode` reads as in training."""
        self.rule, self.config, self.feed, self.sample = rule, config, feed, sample
        self.reward_model, self.accelerator = reward_model, accelerator
        self._seeing = Reader(reward_model, config, encode)
        self._blind = Reader(reward_model, config, self._encode_blind)
        self.shares = planned_shares(feed.strata)
        self._path: Path | None = None
        self._segments = 0
        self._sums: Sums = {}

    def begin(self, folder: Path, step: int) -> None:
        """Takes up the segments that a run which goes on at `step` was at; each process calls it.

        Raises:
            UserError: the schedule is damaged, or isn't that of the checkpoint or of the data.
        """
        self._path = folder / FILE
        main = self.accelerator.is_main_process
        read = keep_before(self._path, self._position(step)) if main else []
        entries: list[Entry] = everyones(self.accelerator, read)[0]
        first = Entry(start=0, draws=draws_of(self.shares, self.feed.strata), told={"shares": self.shares})
        if step:
            self._check(entries, first)
        elif main:
            append(self._path, first)
        for entry in entries[1:]:
            self.feed.extend(entry.segment)
            self.shares = entry.told["shares"]
        self._segments = max(len(entries), 1)

    def _check(self, entries: Sequence[Entry], first: Entry) -> None:
        if len(entries) != self._segments:
            raise UserError(
                f"{self._path}: has {len(entries)} segments up to the checkpoint, which was made with "
                f"{self._segments}; train the reward model anew"
            )
        if entries[0] != first:
            raise UserError(
                f"{self._path}: begins with other sources or numbers of records than the data set has; it was built "
                "anew since. Train the reward model anew"
            )

    def due(self, step: int) -> bool:
        """Whether the sources are measured before a step."""
        return step > 0 and step % self.rule.every == 0

    def change(self, step: int) -> None:
        """Measures the sources, and draws from `step` on by what came of it; each process calls it, with whole weights
        at hand. The main process decides, so that all draw alike."""
        assert self._path is not None, "begin comes first"
        measured = self._measure()
        shares = adapted(self.shares, self.feed.strata, measured, self.rule)
        self.shares = everyones(self.accelerator, shares)[0]
        entry = Entry(
            start=self._position(step),
            draws=draws_of(self.shares, self.feed.strata),
            told={"shares": self.shares, "measured": {name: vars(own) for name, own in measured.items()}},
        )
        if self.accelerator.is_main_process:
            append(self._path, entry)
        self.feed.extend(entry.segment)
        self._segments += 1
        self._sums = self._told(measured)

    def _position(self, step: int) -> int:
        return step * (self.config.batch_size // self.feed.slot_size)

    def _told(self, measured: dict[str, Measured]) -> Sums:
        sums: Sums = {f"mixture/share/{name}": (share, 1.0) for name, share in self.shares.items()}
        for name, own in measured.items():
            sums[f"mixture/accuracy/{name}"] = (own.seeing, own.comparisons)
            sums[f"mixture/accuracy_blind/{name}"] = (own.blind, own.comparisons)
        return sums

    def take_metrics(self) -> Sums:
        """What was measured before the step at work, if anything."""
        sums, self._sums = self._sums, {}
        return sums

    def _measure(self) -> dict[str, Measured]:
        """The sources' comparisons, and those that are right, over all processes' parts of the sample."""
        accelerator = self.accelerator
        own = [
            self.sample[index]
            for index in range(len(self.sample))[accelerator.process_index :: accelerator.num_processes]
        ]
        seeing = dict(self._right(self._seeing, own))
        shown = [record for record in own if record.images and _key(record) in seeing]
        blind = dict(self._right(self._blind, shown))
        found: dict[str, list[int]] = {}
        for record in own:
            right = seeing.get(_key(record))
            guessed = blind.get(_key(record)) if record.images else right
            # one that can't be read in either way is left out of both
            if right is not None and guessed is not None:
                counts = found.setdefault(record.source, [0, 0, 0])
                for place, more in enumerate((len(right), sum(right), sum(guessed))):
                    counts[place] += more
        everywhere = everyones(accelerator, found)
        return {
            name: Measured(
                *(sum(part[name][place] for part in everywhere if name in part) for place in range(3))
            )
            for name in sorted(set().union(*everywhere))
        }

    def _right(
        self, reader: Reader, records: Sequence[PreferenceRecord]
    ) -> Iterator[tuple[tuple[str, str], list[bool]]]:
        """Of each record that can be read, for each of its decided comparisons that is learnt, whether the better
        response has the strictly higher reward, as evaluations count it."""
        for record, rewards_RK, _ in reader.read(records):
            pairs = decided(learnt_part(record, self.config))
            heads = [(pair, self.config.objectives.index(pair.objective)) for pair in pairs]
            yield _key(record), [bool(rewards_RK[p.better, k] > rewards_RK[p.worse, k]) for p, k in heads]

    def _encode_blind(self, record: PreferenceRecord) -> Item:
        vlm, config = self.reward_model.vlm, self.config
        prompt = encode_prompt(vlm, record, config.max_prompt_tokens, images=[])
        answers = [
            encode_answer(vlm, response.text, config.max_answer_tokens) for response in record.responses
        ]
        rows = [Row(prompt, answer) for answer in answers]
        return without_same(record, rows), rows

    def state_dict(self) -> dict[str, Any]:
        """As JSON values: how many segments the schedule has; what they are stands there."""
        return {"segments": self._segments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave; `begin` comes behind it."""
        self._segments = state["segments"]


def _key(record: PreferenceRecord) -> tuple[str, str]:
    return record.source, record.id
