"""Supervised fine-tuning on images and text: the loss is on the answer's tokens only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator

from data_tools.schema import PreferenceRecord
from mmrlhf.config import SftConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.policy import Policy
from mmrlhf.models.vlm import VLM
from mmrlhf.tensors import masked_sum
from mmrlhf.training.engine import LossSum, Update, weight_groups
from mmrlhf.training.feed import Refusals, open_feed
from mmrlhf.training.metrics import Sums
from mmrlhf.types import Row


class SftStage:
    """Learns answers token by token."""

    name = "sft"

    def __init__(self, vlm: VLM, config: SftConfig, data: str, seed: int, accelerator: Accelerator) -> None:
        self.vlm, self.config, self.optim, self.accelerator = vlm, config, config.optim, accelerator
        self.module: Any = Policy(vlm)
        self.feed = open_feed(data, "train", config.learn_from, seed)
        self.num_steps = max(1, round(config.epochs * len(self.feed) / config.batch_size))
        self.refusals = Refusals(config.max_prompt_tokens)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return weight_groups(self.module, self.optim)

    def updates(self, step: int) -> Iterator[Update]:
        records = self.feed.batch(step, self.config.batch_size, self.accelerator)
        rows = sorted(self.refusals.keep(records, self._row), key=lambda row: len(row.prompt.input_ids))
        tokens = torch.tensor(float(sum(len(row.answer_ids) for row in rows)), device=self.accelerator.device)
        size = self.config.micro_batch_size
        yield Update(
            [rows[i : i + size] for i in range(0, len(rows), size)], self.accelerator.reduce(tokens).item()
        )

    def _row(self, record: PreferenceRecord) -> Row:
        prompt = encode_prompt(self.vlm, record, self.config.max_prompt_tokens)
        answer = record.responses[best_response(record)].text
        return Row(prompt, encode_answer(self.vlm, answer, self.config.max_answer_tokens))

    def loss(self, micro_batch: list[Row]) -> LossSum:
        batch = collate(self.vlm, micro_batch, self.accelerator.device)
        out = self.module(batch)
        nll = -masked_sum(out.logprobs_BT, batch.answer_mask_BT)
        tokens = batch.answer_mask_BT.sum()
        return LossSum(nll, {"loss": (nll.detach(), tokens)}, batch.record_ids)

    def step_metrics(self) -> Sums:
        return {"refused": (self.refusals.refused, self.refusals.seen)}

    def note(self, metrics: dict[str, float]) -> str:
        return f"loss {metrics['loss']:.3f}"

    def state_dict(self) -> dict[str, Any]:
        return {"refused": self.refusals.refused, "seen": self.refusals.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.refusals.refused, self.refusals.seen = state["refused"], state["seen"]


def best_response(record: PreferenceRecord) -> int:
    """The response that wins most of its comparisons (the first of equals)."""
    wins = [0] * len(record.responses)
    for comparison in record.comparisons:
        if not comparison.tie:
            wins[comparison.better] += 1
            wins[comparison.worse] -= 1
    return max(range(len(wins)), key=lambda i: wins[i])
