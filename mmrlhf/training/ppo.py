"""Reinforcement learning on image and text prompts: PPO and its relatives (`rl/algorithms`).

A step, top to bottom in `PpoStage.updates`:
1. sample answers to each prompt and score them on every objective; scalarize;
2. log-probs and values of the policy that sampled, log-probs of the reference;
3. rewards a token, and what the algorithm makes of them;
4. several passes of clipped updates over mini-batches.

With LoRA the reference is the same model with its adapters off; else a frozen copy. Whitening is over this process's
share of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig, PpoVariant
from mmrlhf.models.batch import collate, encode_prompt, micro_batches
from mmrlhf.models.policy import Policy, PolicyOutput
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rl.advantages import token_rewards
from mmrlhf.rl.algorithms import Scored
from mmrlhf.rl.kl import ESTIMATORS, KlController, kl_k3
from mmrlhf.rl.losses import policy_loss, value_loss
from mmrlhf.rl.rollout import roll_out, swap_gap
from mmrlhf.tensors import masked_sum, pad_right, whiten
from mmrlhf.training.alarms import Alarms
from mmrlhf.training.engine import LossSum, Stage, Update, weight_groups
from mmrlhf.training.feed import Refusals, open_feed
from mmrlhf.training.metrics import Sums
from mmrlhf.training.rollout_metrics import rollout_metrics, swap_metrics
from mmrlhf.training.samples import write_samples
from mmrlhf.training.sft import DemonstrationRows
from mmrlhf.types import EncodedPrompt, ExperienceBatch, Rollout, Row


@dataclass(frozen=True)
class Demonstrations:
    """Rows of the SFT loss that is mixed into an update, and what its sum is multiplied with."""

    rows: list[Row]
    weight: float


class PpoStage(Stage):
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
        self.algorithm: Any = config.algorithm
        self.objectives = reward_model.card.objectives
        self.scalarizer.check(self.objectives)
        self.policy = Policy(vlm, critics=self._critics())
        self.module: Any = self.policy
        self.feed = open_feed(data, "train", config.prompts_from, seed)
        self.demonstrations = (
            DemonstrationRows(vlm, config, ["demonstration"], data, seed) if config.ptx_coef else None
        )
        self.num_steps = config.steps
        self.refusals = Refusals(config.max_prompt_tokens)
        self.kl = KlController(config.kl_coef, config.kl_target)
        self.alarms = Alarms(config.alarms, self.objectives)
        self._measured: Sums = {}
        self._moved = torch.zeros(
            2
        )  # KL from the policy that sampled, over the latest update: sum and tokens

    def _critics(self) -> int:
        """One, or one an objective and one for the penalties; none for algorithms without."""
        if not self.algorithm.has_critic:
            return 0
        return 1 if self.algorithm.critics == "single" else len(self.objectives) + 1

    def parameter_groups(self) -> list[dict[str, Any]]:
        value_lr = self.config.value_lr or 10 * self.optim.lr
        return weight_groups(self.module, self.optim, {"value_head": value_lr})

    def updates(self, step: int) -> Iterator[Update]:
        if self.vlm.vision:
            self.vlm.vision.cache.clear()
        records = self.feed.batch(step, self.config.batch_size, self.accelerator)
        prompts = self.refusals.keep(records, self._encode)
        # 1. answers and their rewards
        rollout = roll_out(self.vlm, prompts, self.reward_model, self.scalarizer, self.config)
        # 2. and 3. what the updates need to know of them
        experience = self._experience(rollout)
        self._measure(step, rollout, experience)
        # 4. passes over mini-batches
        shares = [
            share
            for _ in range(self.config.num_ppo_epochs)
            for share in _cut(torch.randperm(len(rollout.rows)).tolist(), self.config.num_mini_batches)
        ]
        for count, share in enumerate(shares):
            self._moved.zero_()
            yield self._mini_batch(experience, share, step, count)
            self._measured["updates"] = (count + 1, 1)
            if self._gone_too_far():
                break

    def _encode(self, record: PreferenceRecord) -> EncodedPrompt:
        return encode_prompt(self.vlm, record, self.config.max_prompt_tokens)

    def _gone_too_far(self) -> bool:
        if self.config.max_update_kl is None:
            return False
        total, tokens = self.accelerator.reduce(self._moved.to(self.accelerator.device)).tolist()
        return total / max(tokens, 1.0) > self.config.max_update_kl

    def _mini_batch(self, experience: ExperienceBatch, index: list[int], step: int, count: int) -> Update:
        chosen = experience.select(index)
        parts = micro_batches(chosen.rows, self.config.micro_batch_size)
        batches: list[ExperienceBatch | Demonstrations] = [chosen.select(part) for part in parts]
        size = len(index) if self.config.loss_over == "answers" else int(chosen.mask_BT.sum())
        whole = self.accelerator.reduce(torch.tensor(float(size), device=self.accelerator.device)).item()
        if self.demonstrations:
            updates = self.config.num_ppo_epochs * self.config.num_mini_batches
            rows = self.demonstrations.batch(step * updates + count, len(index), self.accelerator)
            tokens = sum(len(row.answer_ids) for row in rows)
            # the sum over the mini-batch is divided by `whole`; these rows are a mean of their own
            weight = self.config.ptx_coef * whole / self.accelerator.num_processes / max(tokens, 1)
            batches += [
                Demonstrations([rows[i] for i in part], weight)
                for part in micro_batches(rows, self.config.micro_batch_size)
            ]
        return Update(batches, whole)

    @torch.no_grad()
    def _forward(self, rows: Sequence[Row], reference: bool) -> PolicyOutput:
        """Log-probs (B, T) and values (B, T, K) of all rows, by micro-batches of like length: float32, on the CPU."""
        size = max(len(row.answer_ids) for row in rows)
        logprobs_BT = torch.zeros(len(rows), size)
        critics = 0 if reference else self._critics()
        values_BTK = torch.zeros(len(rows), size, critics) if critics else None
        for part in micro_batches(rows, self.config.micro_batch_size):
            batch = collate(self.vlm, [rows[i] for i in part], self.accelerator.device)
            with self.accelerator.autocast():
                out = (
                    self._reference_forward(batch)
                    if reference
                    else self.policy(batch, self.config.temperature)
                )
            length = out.logprobs_BT.shape[1]
            logprobs_BT[part, :length] = out.logprobs_BT.float().cpu()
            if values_BTK is not None and out.values_BTK is not None:
                values_BTK[part, :length] = out.values_BTK.float().cpu()
        return PolicyOutput(logprobs_BT, None, values_BTK)

    def _reference_forward(self, batch: Any) -> PolicyOutput:
        if self.reference is not None:
            return Policy(self.reference)(batch, self.config.temperature)
        with self.vlm.adapters_off():
            return self.policy(batch, self.config.temperature)

    def _experience(self, rollout: Rollout) -> ExperienceBatch:
        mask_BT = pad_right([torch.ones(len(row.answer_ids)) for row in rollout.rows]).bool()
        old, ref = self._forward(rollout.rows, reference=False), self._forward(rollout.rows, reference=True)
        scored = self._scored(rollout, mask_BT, old, ref)
        advantages_BT, returns_BTK = self.algorithm.advantages(scored)
        return ExperienceBatch(
            rows=rollout.rows,
            mask_BT=mask_BT,
            logprobs_BT=old.logprobs_BT,
            ref_logprobs_BT=ref.logprobs_BT,
            advantages_BT=advantages_BT,
            values_BTK=old.values_BTK,
            returns_BTK=returns_BTK,
        )

    def _scored(self, rollout: Rollout, mask_BT: Tensor, old: PolicyOutput, ref: PolicyOutput) -> Scored:
        config = self.config
        penalty_B = config.missing_eos_penalty * ~rollout.ended_B
        penalty_B = penalty_B + config.length_penalty * mask_BT.sum(1) / config.max_answer_tokens
        kl_BT = ESTIMATORS[config.kl_estimator](old.logprobs_BT, ref.logprobs_BT, mask_BT)
        coef = self.kl.coef if config.kl_in == "reward" else 0.0
        scores_B = rollout.scores_B - penalty_B
        if self._critics() > 1:
            # a critic an objective learns that objective alone; the penalties have one of their own
            clipped_BK = rollout.rewards_BK.clamp(-config.score_clip, config.score_clip)
            parts = [
                token_rewards(clipped_BK[:, k], kl_BT, 0.0, mask_BT) for k in range(len(self.objectives))
            ]
            parts.append(token_rewards(-penalty_B, kl_BT, coef, mask_BT))
            weights_BK = torch.cat([rollout.weights_BK, torch.ones(len(mask_BT), 1)], 1)
        else:
            if config.whiten_rewards:
                scores_B = whiten(scores_B, torch.ones_like(scores_B, dtype=torch.bool))
            parts, weights_BK = [token_rewards(scores_B, kl_BT, coef, mask_BT)], torch.ones(len(mask_BT), 1)
        return Scored(
            scores_B=scores_B,
            rewards_BTK=torch.stack(parts, -1),
            values_BTK=old.values_BTK,
            weights_BK=weights_BK,
            mask_BT=mask_BT,
            group_B=rollout.group_B,
        )

    def _measure(self, step: int, rollout: Rollout, experience: ExperienceBatch) -> None:
        config = self.config
        due = step + 1 == self.num_steps
        sums = rollout_metrics(rollout, experience, self.objectives)
        sums["kl_coef"] = (self.kl.coef, 1)
        sums["refused"] = (self.refusals.refused, self.refusals.seen)
        if self.vlm.vision:
            cache = self.vlm.vision.cache
            sums["features/kept_mb"] = (sum(cache.used.values()) / 2**20, 1)
        if due or step % config.swap_every == 0:
            gap = swap_gap(self.reward_model, rollout, config.micro_batch_size, seed=step)
            sums |= swap_metrics(*gap, self.objectives)
        if (due or step % config.sample_every == 0) and self.accelerator.is_main_process:
            write_samples(self.folder / "samples", step + 1, rollout, self.objectives)
        total, count = (float(part) for part in sums["kl"])
        kl = self.accelerator.reduce(torch.tensor([total, count]).to(self.accelerator.device)).tolist()
        self.kl.update(kl[0] / kl[1])
        self._measured = sums

    def loss(self, micro_batch: ExperienceBatch | Demonstrations) -> LossSum:
        if isinstance(micro_batch, Demonstrations):
            return self._demonstration_loss(micro_batch)
        config, device = self.config, self.accelerator.device
        batch = collate(self.vlm, micro_batch.rows, device)
        entropies = "grad" if config.entropy_coef else "plain"
        out: PolicyOutput = self.module(batch, config.temperature, entropies)
        assert out.entropy_BT is not None
        mask_BT, size = batch.answer_mask_BT, out.logprobs_BT.shape[1]
        old_BT, ref_BT, advantages_BT = (
            t[:, :size].to(device)
            for t in (micro_batch.logprobs_BT, micro_batch.ref_logprobs_BT, micro_batch.advantages_BT)
        )
        log_ratio_BT = (out.logprobs_BT - old_BT).masked_fill(~mask_BT, 0.0)
        high = config.cliprange if config.cliprange_high is None else config.cliprange_high
        loss_BT, clipped_BT = policy_loss(
            log_ratio_BT, advantages_BT, config.cliprange, high, config.dual_clip
        )
        moved_BT = kl_k3(old_BT, out.logprobs_BT, mask_BT).detach()
        self._moved += torch.stack([moved_BT.sum(), mask_BT.sum()]).cpu()
        tokens = mask_BT.sum()
        sums: Sums = {
            "loss/policy": (masked_sum(loss_BT, mask_BT).detach(), tokens),
            "clipfrac": (masked_sum(clipped_BT.float(), mask_BT), tokens),
            "approx_kl": (moved_BT.sum(), tokens),
            "ratio": (masked_sum(log_ratio_BT.detach().exp(), mask_BT), tokens),
            **_entropy_sums(out.entropy_BT.detach(), mask_BT, micro_batch.rows),
        }
        if out.values_BTK is not None:
            assert micro_batch.values_BTK is not None
            assert micro_batch.returns_BTK is not None
            old_BTK, returns_BTK = (
                t[:, :size].to(device) for t in (micro_batch.values_BTK, micro_batch.returns_BTK)
            )
            value_BTK, cut_BTK = value_loss(out.values_BTK, old_BTK, returns_BTK, config.cliprange_value)
            loss_BT = loss_BT + config.vf_coef * value_BTK.sum(-1)
            sums["loss/value"] = (masked_sum(value_BTK.detach().mean(-1), mask_BT), tokens)
            sums["value_clipfrac"] = (masked_sum(cut_BTK.float().mean(-1), mask_BT), tokens)
        if config.entropy_coef:
            loss_BT = loss_BT - config.entropy_coef * out.entropy_BT
        if config.kl_in == "loss":
            kl_BT = ESTIMATORS[config.kl_estimator](out.logprobs_BT, ref_BT, mask_BT)
            loss_BT = loss_BT + self.kl.coef * kl_BT
            sums["loss/kl"] = (kl_BT.detach().sum(), tokens)
        if config.loss_over == "answers":
            loss_BT = loss_BT / mask_BT.sum(1, keepdim=True).clamp(min=1)
        return LossSum(masked_sum(loss_BT, mask_BT), sums, batch.record_ids)

    def _demonstration_loss(self, micro_batch: Demonstrations) -> LossSum:
        batch = collate(self.vlm, micro_batch.rows, self.accelerator.device)
        nll = -masked_sum(self.module(batch).logprobs_BT, batch.answer_mask_BT)
        sums: Sums = {"loss/demonstrations": (nll.detach(), batch.answer_mask_BT.sum())}
        return LossSum(micro_batch.weight * nll, sums, batch.record_ids)

    def step_metrics(self) -> Sums:
        return self._measured

    def note(self, metrics: dict[str, float]) -> str:
        return f"score {metrics['score']:+.2f} kl {metrics['kl']:.2f} length {metrics['length']:.0f}"

    def watch(self, metrics: dict[str, float]) -> list[str]:
        return self.alarms.watch(metrics)

    @property
    def lr_scale(self) -> float:
        return self.alarms.lr_scale

    def state_dict(self) -> dict[str, Any]:
        # what the scalarizer keeps from step to step (multipliers, running means) belongs here too
        return {
            "kl_coef": self.kl.coef,
            "refused": self.refusals.refused,
            "seen": self.refusals.seen,
            "alarms": self.alarms.state_dict(),
            "scalarizer": self.scalarizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kl.coef = state["kl_coef"]
        self.alarms.load_state_dict(state["alarms"])
        self.scalarizer.load_state_dict(state["scalarizer"])
        self.refusals.refused, self.refusals.seen = state["refused"], state["seen"]


def _entropy_sums(entropy_BT: Tensor, mask_BT: Tensor, rows: Sequence[Row]) -> Sums:
    sums: Sums = {"entropy": (masked_sum(entropy_BT, mask_BT), mask_BT.sum())}
    for modality in sorted({row.prompt.modality for row in rows}):
        of_B = torch.tensor([row.prompt.modality == modality for row in rows], device=mask_BT.device)
        sums[f"entropy/{modality}"] = (masked_sum(entropy_BT[of_B], mask_BT[of_B]), mask_BT[of_B].sum())
    return sums


def _cut(order: list[int], parts: int) -> list[list[int]]:
    """As even parts as can be, none of them empty."""
    parts = min(parts, len(order))
    bounds = [len(order) * i // parts for i in range(parts + 1)]
    return [order[a:b] for a, b in itertools.pairwise(bounds)]
