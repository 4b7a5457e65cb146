"""Supervised fine-tuning on images and text: the loss is on the answer's tokens only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from data_tools.errors import UserError
from data_tools.manifest import read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind
from mmrlhf.config import SftConfig, StageConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt, micro_batches
from mmrlhf.models.policy import Policy
from mmrlhf.models.vlm import VLM
from mmrlhf.tensors import masked_sum
from mmrlhf.training.context import fit_context
from mmrlhf.training.cut_answers import CutAnswers, check_room
from mmrlhf.training.engine import LossSum, Stage, Update, weight_groups
from mmrlhf.training.feed import Feed, Refusals, open_feed, tell_repeats
from mmrlhf.training.processes import total
from mmrlhf.types import Row, Sums


class DemonstrationRows:
    """The answers to imitate, batch by batch; prompts that are too long are left out."""

    def __init__(
        self, vlm: VLM, config: StageConfig, kinds: Sequence[Kind], data: str, seed: int, end: str = ""
    ) -> None:
        """`end` goes behind the names of its metrics."""
        self.vlm, self.config, self.end = vlm, config, end
        check_room(vlm, config.max_answer_tokens)
        self.feed = _learnable(open_feed(data, "train", kinds, seed), data)
        self.refusals = Refusals(config.max_refused)
        self.cuts = CutAnswers(vlm, "demonstrations", config.max_answer_tokens, end)

    def batch(self, step: int, size: int, accelerator: Accelerator) -> list[Row]:
        """This process's share of batch number `step`."""
        rows = self.refusals.keep(self.feed.batch(step, size, accelerator), self._row)
        self.cuts.add(rows)
        return rows

    def step_metrics(self) -> Sums:
        """The share of records that were left out so far, and that of the step's answers that were cut."""
        refused: Sums = {f"refused{self.end}": (self.refusals.refused, self.refusals.seen)}
        return refused | self.cuts.take_metrics()

    def _row(self, record: PreferenceRecord) -> Row:
        prompt = encode_prompt(self.vlm, record, self.config.max_prompt_tokens)
        best = best_response(record)
        assert best is not None  # the feed holds no such record
        answer = record.responses[best].text
        return Row(prompt, encode_answer(self.vlm, answer, self.config.max_answer_tokens))


class SftStage(Stage):
    """Learns answers token by token."""

    name = "sft"

    def __init__(self, vlm: VLM, config: SftConfig, data: str, seed: int, accelerator: Accelerator) -> None:
        self.vlm, self.config, self.optim, self.accelerator = vlm, config, config.optim, accelerator
        self.best_by = config.best_by
        fit_context(vlm, config, accelerator)
        self.module: Any = Policy(vlm)
        self.demonstrations = DemonstrationRows(vlm, config, config.learn_from, data, seed)
        self.refusals = self.demonstrations.refusals
        self.num_steps = self.demonstrations.feed.steps(config.epochs, config.batch_size)

    def begin(self, folder: Path, step: int) -> None:
        tell_repeats(self.name, self.demonstrations.feed, self.config.batch_size, self.accelerator)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return weight_groups(self.module, self.optim)

    def updates(self, step: int) -> Iterator[Update]:
        if self.vlm.vision:
            self.vlm.vision.cache.begin_step()
        rows = self.demonstrations.batch(step, self.config.batch_size, self.accelerator)
        self.refusals.check(self.accelerator)
        tokens = total(self.accelerator, sum(len(row.answer_ids) for row in rows))
        if not tokens:
            raise self.refusals.none_left()
        config = self.config
        parts = micro_batches(rows, config.micro_batch_size, config.micro_batch_tokens, self.vlm)
        yield Update([[rows[i] for i in part] for part in parts], tokens)

    def loss(self, micro_batch: list[Row]) -> LossSum:
        batch = collate(self.vlm, micro_batch, self.accelerator.device)
        out = self.module(batch)
        nll = -masked_sum(out.logprobs_BT, batch.answer_mask_BT)
        tokens = batch.answer_mask_BT.sum()
        return LossSum(nll, {"loss": (nll.detach(), tokens)}, batch.record_ids)

    def step_metrics(self) -> Sums:
        return self.demonstrations.step_metrics()

    def note(self, metrics: dict[str, float]) -> str:
        return f"loss {metrics['loss']:.3f}"

    def state_dict(self) -> dict[str, Any]:
        return self.refusals.state_dict(self.accelerator)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.refusals.load_state_dict(state, self.accelerator)


def _learnable(feed: Feed, data: str) -> Feed:
    """The feed without the records of which no answer should be imitated; reads their labels alone, and
    only where some are rated.

    Raises:
        UserError: no other record is left.
    """
    if not any(shard.ratings for shard in read_manifest(Path(data)).shards if shard.split == "train"):
        return feed
    indices = [index for index in range(len(feed.records)) if best_response(feed.outline(index)) is not None]
    if not indices:
        raise UserError(
            f"sft.learn_from: every answer of {data} is rated in the lower half of its scale; there is none to imitate"
        )
    return feed.only(indices)


def best_response(record: PreferenceRecord) -> int | None:
    """The response that wins most of its comparisons, among equals the one rated best, then the first; None where this
    one is rated in the lower half of a scale, such as a KTO row's answer that was marked bad.

    Of several ratings the lowest counts, on whatever objective; a response without any stands in the middle.
    """
    wins = [0] * len(record.responses)
    for comparison in record.pairs():
        if not comparison.tie:
            wins[comparison.better] += 1
            wins[comparison.worse] -= 1
    shares = [(r.response, (r.value - r.low) / (r.high - r.low)) for r in record.ratings if r.low < r.high]
    rated = [min((share for i, share in shares if i == index), default=0.5) for index in range(len(wins))]
    best = max(range(len(wins)), key=lambda i: (wins[i], rated[i]))
    return best if rated[best] >= 0.5 else None
