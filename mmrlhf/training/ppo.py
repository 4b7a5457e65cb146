"""PPO on image and text prompts (Schulman et al. 2017; for language models Ziegler et al. 2019).

A step, top to bottom in `PpoStage.updates`:
1. sample an answer to each prompt and score it on every objective; scalarize;
2. log-probs and values of the policy that sampled, log-probs of the reference;
3. rewards a token, advantages and returns;
4. several passes of clipped updates over mini-batches.

With LoRA the reference is the same model with its adapters off; else a frozen copy. Whitening is over this process's
share of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig, PpoVariant
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.policy import Policy, PolicyOutput
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rl.advantages import gae, token_rewards
from mmrlhf.rl.kl import KlController, answer_kl, kl_k1
from mmrlhf.rl.ppo import ppo_terms
from mmrlhf.rl.rollout import roll_out
from mmrlhf.tensors import masked_mean, masked_sum, pad_right, whiten
from mmrlhf.training.engine import LossSum, Update, weight_groups
from mmrlhf.training.feed import Refusals, open_feed
from mmrlhf.training.metrics import Sums
from mmrlhf.training.samples import write_samples
from mmrlhf.types import EncodedPrompt, ExperienceBatch, Rollout, Row


class PpoStage:
    """Improves a policy on scalarized rewards, held near its reference."""

    def __init__(
        self,
        vlm: VLM,
        reference: VLM | None,
        reward_model: RewardModel,
        config: PpoConfig,
        variant: PpoVariant,
        data: str,
        folder: Path,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        """`reference` is None with LoRA: then it is the policy with its adapters off."""
        assert (reference is None) == vlm.has_adapters
        self.name = f"ppo {variant.name}"
        self.vlm, self.reference, self.reward_model = vlm, reference, reward_model
        self.config, self.optim, self.accelerator, self.folder = config, config.optim, accelerator, folder
        self.scalarizer: Any = variant.scalarizer
        self.scalarizer.check(reward_model.card.objectives)
        self.policy = Policy(vlm, value_head=True)
        self.module: Any = self.policy
        self.feed = open_feed(data, "train", config.prompts_from, seed)
        self.num_steps = config.steps
        self.refusals = Refusals(config.max_prompt_tokens)
        self.kl = KlController(config.kl_coef, config.kl_target)
        self._measured: Sums = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        value_lr = self.config.value_lr or 10 * self.optim.lr
        return weight_groups(self.module, self.optim, {"value_head": value_lr})

    def updates(self, step: int) -> Iterator[Update]:
        records = self.feed.batch(step, self.config.batch_size, self.accelerator)
        prompts = self.refusals.keep(records, self._encode)
        # 1. answers and their rewards
        rollout = roll_out(self.vlm, prompts, self.reward_model, self.scalarizer, self.config)
        # 2. and 3. what the updates need to know of them
        experience = self._experience(rollout)
        self._measured = self._measure(rollout, experience)
        if (
            step % self.config.sample_every == 0 or step + 1 == self.num_steps
        ) and self.accelerator.is_main_process:
            write_samples(self.folder / "samples", step + 1, rollout, self.reward_model.card.objectives)
        # 4. passes over mini-batches
        for _ in range(self.config.num_ppo_epochs):
            order = torch.randperm(len(prompts)).tolist()
            for share in _cut(order, self.config.num_mini_batches):
                yield self._mini_batch(experience, share)

    def _encode(self, record: PreferenceRecord) -> EncodedPrompt:
        return encode_prompt(self.vlm, record, self.config.max_prompt_tokens)

    def _mini_batch(self, experience: ExperienceBatch, index: list[int]) -> Update:
        index = sorted(index, key=lambda i: _row_length(experience.rows[i]))
        micro_batches = [experience.select(part) for part in _chunks(index, self.config.micro_batch_size)]
        tokens = torch.tensor(float(experience.mask_BT[index].sum()), device=self.accelerator.device)
        return Update(micro_batches, self.accelerator.reduce(tokens).item())

    @torch.no_grad()
    def _forward(self, rows: Sequence[Row], reference: bool) -> PolicyOutput:
        """Log-probs, entropies and values of all rows (B, T), by micro-batches of like length: float32, on the CPU."""
        order = sorted(range(len(rows)), key=lambda i: _row_length(rows[i]))
        size = max(len(row.answer_ids) for row in rows)
        full = {name: torch.zeros(len(rows), size) for name in ("logprobs_BT", "values_BT")}
        for part in _chunks(order, self.config.micro_batch_size):
            batch = collate(self.vlm, [rows[i] for i in part], self.accelerator.device)
            with self.accelerator.autocast():
                out = (
                    self._reference_forward(batch)
                    if reference
                    else self.policy(batch, self.config.temperature)
                )
            for name, target in full.items():
                source = getattr(out, name)
                if source is not None:
                    target[part, : source.shape[1]] = source.float().cpu()
        return PolicyOutput(entropy_BT=None, **full)

    def _reference_forward(self, batch: Any) -> PolicyOutput:
        if self.reference is not None:
            return Policy(self.reference)(batch, self.config.temperature)
        with self.vlm.adapters_off():
            return self.policy(batch, self.config.temperature)

    def _experience(self, rollout: Rollout) -> ExperienceBatch:
        config = self.config
        mask_BT = pad_right([torch.ones(len(row.answer_ids)) for row in rollout.rows]).bool()
        old, ref = self._forward(rollout.rows, reference=False), self._forward(rollout.rows, reference=True)
        assert old.values_BT is not None
        scores_B = rollout.scores_B - config.missing_eos_penalty * ~rollout.ended_B
        if config.whiten_rewards:
            scores_B = whiten(scores_B, torch.ones_like(scores_B, dtype=torch.bool))
        kl_BT = kl_k1(old.logprobs_BT, ref.logprobs_BT, mask_BT)
        rewards_BT = token_rewards(scores_B, kl_BT, self.kl.coef, mask_BT)
        advantages_BT, returns_BT = gae(rewards_BT, old.values_BT, mask_BT, config.gamma, config.lam)
        return ExperienceBatch(
            rows=rollout.rows,
            mask_BT=mask_BT,
            logprobs_BT=old.logprobs_BT,
            ref_logprobs_BT=ref.logprobs_BT,
            values_BT=old.values_BT,
            advantages_BT=advantages_BT,
            returns_BT=returns_BT,
        )

    def _measure(self, rollout: Rollout, experience: ExperienceBatch) -> Sums:
        mask_BT, count = experience.mask_BT, len(rollout.rows)
        kl_B = answer_kl(experience.logprobs_BT, experience.ref_logprobs_BT, mask_BT)
        error_BT = experience.returns_BT - experience.values_BT
        spread = masked_mean(
            (experience.returns_BT - masked_mean(experience.returns_BT, mask_BT)) ** 2, mask_BT
        )
        residual = masked_mean((error_BT - masked_mean(error_BT, mask_BT)) ** 2, mask_BT)
        explained = 1 - residual / spread.clamp(min=1e-8)
        sums: Sums = {
            "score": (rollout.scores_B.sum(), count),
            "kl": (kl_B.sum(), count),
            "kl_coef": (self.kl.coef, 1),
            "length": (mask_BT.sum(), count),
            "ended": (rollout.ended_B.sum(), count),
            "explained_variance": (explained, 1),
            "refused": (self.refusals.refused, self.refusals.seen),
        }
        modalities = [row.prompt.modality for row in rollout.rows]
        for k, name in enumerate(self.reward_model.card.objectives):
            for modality in sorted(set(modalities)):
                of_B = rollout.judged_BK[:, k] & torch.tensor([m == modality for m in modalities])
                sums[f"reward/{name}/{modality}"] = ((rollout.rewards_BK[:, k] * of_B).sum(), of_B.sum())
        kl = self.accelerator.reduce(
            torch.stack([kl_B.sum(), torch.tensor(float(count))]).to(self.accelerator.device)
        )
        self.kl.update((kl[0] / kl[1]).item())
        return sums

    def loss(self, micro_batch: ExperienceBatch) -> LossSum:
        config, device = self.config, self.accelerator.device
        batch = collate(self.vlm, micro_batch.rows, device)
        entropies = "grad" if config.entropy_coef else "plain"
        out: PolicyOutput = self.module(batch, config.temperature, entropies)
        size = out.logprobs_BT.shape[1]
        old = {k: v[:, :size].to(device) for k, v in vars(micro_batch).items() if k != "rows"}
        mask_BT = batch.answer_mask_BT
        assert out.values_BT is not None
        assert out.entropy_BT is not None
        terms = ppo_terms(
            out.logprobs_BT,
            old["logprobs_BT"],
            old["advantages_BT"],
            out.values_BT,
            old["values_BT"],
            old["returns_BT"],
            mask_BT,
            config.cliprange,
            config.cliprange_value,
        )
        entropy = masked_sum(out.entropy_BT, mask_BT)
        loss = terms.policy + config.vf_coef * terms.value - config.entropy_coef * entropy
        tokens = mask_BT.sum()
        sums: Sums = {
            "loss/policy": (terms.policy.detach(), tokens),
            "loss/value": (terms.value.detach(), tokens),
            "entropy": (entropy.detach(), tokens),
            "clipfrac": (terms.clipped, tokens),
            "value_clipfrac": (terms.value_clipped, tokens),
            "approx_kl": (terms.approx_kl.detach(), tokens),
            "ratio": (terms.ratio.detach(), tokens),
        }
        return LossSum(loss, sums, batch.record_ids)

    def step_metrics(self) -> Sums:
        return self._measured

    def note(self, metrics: dict[str, float]) -> str:
        return f"score {metrics['score']:+.2f} kl {metrics['kl']:.2f} length {metrics['length']:.0f}"

    def state_dict(self) -> dict[str, Any]:
        return {"kl_coef": self.kl.coef, "refused": self.refusals.refused, "seen": self.refusals.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kl.coef = state["kl_coef"]
        self.refusals.refused, self.refusals.seen = state["refused"], state["seen"]


def _row_length(row: Row) -> int:
    return len(row.prompt.input_ids) + len(row.answer_ids)


def _chunks(index: list[int], size: int) -> list[list[int]]:
    return [index[i : i + size] for i in range(0, len(index), size)]


def _cut(order: list[int], parts: int) -> list[list[int]]:
    """As even parts as can be, none of them empty."""
    parts = min(parts, len(order))
    return [order[len(order) * i // parts : len(order) * (i + 1) // parts] for i in range(parts)]
