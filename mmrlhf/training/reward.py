"""Training the reward model: Bradley-Terry on each objective's comparisons, one forward for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from data_tools.errors import UserError
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.config import RewardConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt, padded_tokens
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.losses import bradley_terry, centering
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.training.engine import LossSum, Stage, Update, weight_groups
from mmrlhf.training.feed import Refusals, open_feed
from mmrlhf.training.processes import everyones, total
from mmrlhf.types import PairBatch, Row, Sums

Item = tuple[PreferenceRecord, list[Row]]  # a record and a row for each of its responses
CALIBRATION_RECORDS = 128  # for each objective and modality


class RewardStage(Stage):
    """Learns a head an objective from the comparisons that were made on it."""

    name = "reward model"

    def __init__(
        self, vlm: VLM, config: RewardConfig, data: str, seed: int, accelerator: Accelerator
    ) -> None:
        self.vlm, self.config, self.optim, self.accelerator = vlm, config, config.optim, accelerator
        self.best_by = config.best_by
        self.reward_model = RewardModel(vlm, RewardCard(list(config.objectives)))
        self.module: Any = self.reward_model
        self.feed = open_feed(data, "train", ["preference"], seed)
        self.num_steps = max(1, round(config.epochs * len(self.feed) / config.batch_size))
        self.refusals = Refusals(config.max_refused)
        self.learnt: set[tuple[str, Modality]] = set()  # objectives and the modalities they were compared on

    def parameter_groups(self) -> list[dict[str, Any]]:
        return weight_groups(self.module, self.optim)

    def updates(self, step: int) -> Iterator[Update]:
        if self.vlm.vision:
            self.vlm.vision.cache.begin_step()
        records = self.feed.batch(step, self.config.batch_size, self.accelerator)
        items = self.refusals.keep(records, self._encode)
        self.refusals.check(self.accelerator)
        self.learnt |= {(c.objective, record.modality) for record, _ in items for c in record.comparisons}
        items.sort(key=lambda item: len(item[1][0].prompt.input_ids))
        batches = [pair_batch(part, self.config.objectives) for part in self._parts(items)]
        batches = [batch for batch in batches if len(batch.better_N)]
        if not total(self.accelerator, len(items)):
            raise self.refusals.none_left()
        yield Update(batches, total(self.accelerator, sum(len(b.better_N) for b in batches)))

    def _parts(self, items: Sequence[Item]) -> list[list[Item]]:
        """Records together, as many as micro_batch_size and micro_batch_tokens let in; at least one."""
        config = self.config
        parts: list[list[Item]] = []
        for item in items:
            wider = [*parts[-1], item] if parts else []
            rows = [row for _, of in wider for row in of]
            full = not rows or len(rows) > max(config.micro_batch_size, 2)
            most = config.micro_batch_tokens
            if full or (most is not None and padded_tokens(rows, self.vlm) > most):
                parts.append([item])
            else:
                parts[-1] = wider
        return parts

    def _encode(self, record: PreferenceRecord) -> Item:
        return record, encode_responses(
            self.vlm, record, self.config.max_prompt_tokens, self.config.max_answer_tokens
        )

    def loss(self, micro_batch: PairBatch) -> LossSum:
        pairs = micro_batch
        batch = collate(self.vlm, pairs.rows, self.accelerator.device)
        rewards_BK = self.module(batch)
        better, worse, objective, tie = (
            t.to(rewards_BK.device) for t in (pairs.better_N, pairs.worse_N, pairs.objective_N, pairs.tie_N)
        )
        better_N, worse_N = rewards_BK[better, objective], rewards_BK[worse, objective]
        loss_N = bradley_terry(better_N, worse_N, tie)
        loss = (loss_N + self.config.center * centering(better_N, worse_N)).sum()
        sums: Sums = {}
        for k, name in enumerate(self.config.objectives):
            # a tie has no right order
            decided = (objective == k) & ~tie
            right = ((better_N > worse_N) & decided).sum()
            sums[f"accuracy/{name}"] = (right, decided.sum())
            sums[f"loss/{name}"] = ((loss_N.detach() * (objective == k)).sum(), (objective == k).sum())
        return LossSum(loss, sums, batch.record_ids)

    def step_metrics(self) -> Sums:
        return {"refused": (self.refusals.refused, self.refusals.seen)}

    def note(self, metrics: dict[str, float]) -> str:
        shown = {n.removeprefix("accuracy/"): v for n, v in metrics.items() if n.startswith("accuracy/")}
        return " ".join(f"{name} {value:.0%}" for name, value in shown.items())

    def state_dict(self) -> dict[str, Any]:
        learnt = sorted(set().union(*everyones(self.accelerator, self.learnt)))
        return {**self.refusals.state_dict(self.accelerator), "learnt": learnt}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.refusals.load_state_dict(state, self.accelerator)
        self.learnt = {(name, modality) for name, modality in state["learnt"]}

    def finish(self) -> None:
        """Fills the card: each head's mean and deviation on judged training responses, and what it learnt from.

        Raises:
            UserError: an objective was compared in no batch.
        """
        everywhere = set().union(*everyones(self.accelerator, self.learnt))
        judged = {o: sorted(m for name, m in everywhere if name == o) for o in self.config.objectives}
        unlearnt = [name for name, modalities in judged.items() if not modalities]
        if unlearnt:
            raise UserError(
                f"reward.objectives: training met no comparison on {', '.join(unlearnt)}; train for longer"
            )
        self.reward_model.card.norms = {name: {} for name in self.config.objectives}
        for name, modalities in judged.items():
            for modality in modalities:
                rewards = self._calibration_rewards(name, modality)
                std = max(rewards.std().item(), 1e-6) if len(rewards) > 1 else 1.0
                self.reward_model.card.norms[name][modality] = (rewards.mean().item(), std)

    def _calibration_rewards(self, objective: str, modality: Modality) -> Tensor:
        """Raw rewards of the first training responses of a modality that were judged on an objective."""
        chosen: list[PreferenceRecord] = []
        for position in range(len(self.feed)):
            record = self.feed.records[self.feed.index(position)]
            if record.modality == modality and any(c.objective == objective for c in record.comparisons):
                chosen.append(record)
            if len(chosen) == CALIBRATION_RECORDS:
                break
        kept = Refusals(1.0).keep(chosen, self._encode)  # those that are too long were told of in training
        if not kept:
            raise self.refusals.none_left()
        rows = [row for _, encoded in kept for row in encoded]
        config = self.config
        rewards_BK = self.reward_model.score(
            rows, config.micro_batch_size, normalised=False, micro_batch_tokens=config.micro_batch_tokens
        )
        return rewards_BK[:, self.config.objectives.index(objective)]


def encode_responses(vlm: VLM, record: PreferenceRecord, max_prompt: int, max_answer: int) -> list[Row]:
    """A row for each response of the record, all with the same prompt."""
    prompt = encode_prompt(vlm, record, max_prompt)
    return [Row(prompt, encode_answer(vlm, response.text, max_answer)) for response in record.responses]


def pair_batch(items: Sequence[Item], objectives: Sequence[str]) -> PairBatch:
    """The comparisons of some records on the objectives that are learnt, over their rows put together."""
    rows: list[Row] = []
    found: list[tuple[int, int, int, bool]] = []
    for record, encoded in items:
        for c in record.comparisons:
            if c.objective in objectives:
                found.append(
                    (len(rows) + c.better, len(rows) + c.worse, objectives.index(c.objective), c.tie)
                )
        rows += encoded
    better, worse, objective, tie = zip(*found, strict=True) if found else ((), (), (), ())
    return PairBatch(
        rows=tuple(rows),
        better_N=torch.tensor(better, dtype=torch.int64),
        worse_N=torch.tensor(worse, dtype=torch.int64),
        objective_N=torch.tensor(objective, dtype=torch.int64),
        tie_N=torch.tensor(tie, dtype=torch.bool),
    )
