"""What a rollout tells of the run, before any update: by objective and by modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmrlhf.rl.kl import answer_kl
from mmrlhf.tensors import masked_mean
from mmrlhf.training.metrics import Sums
from mmrlhf.types import ExperienceBatch, Rollout


def rollout_metrics(rollout: Rollout, experience: ExperienceBatch, objectives: Sequence[str]) -> Sums:
    """Means a rollout: `reward/NAME/MODALITY` and its deviation `reward_std/...`, score, KL to the reference (nats an
    answer), length (tokens), the share of answers that end, of groups whose answers all score alike, and the critics'
    explained variance."""
    lengths_B = experience.mask_BT.sum(1).float()
    kl_B = answer_kl(experience.logprobs_BT, experience.ref_logprobs_BT, experience.mask_BT)
    each = {"score": rollout.scores_B, "kl": kl_B, "length": lengths_B, "ended": rollout.ended_B.float()}
    sums: Sums = {name: (values.sum(), len(values)) for name, values in each.items()}
    modalities = [row.prompt.modality for row in rollout.rows]
    for modality in sorted(set(modalities)):
        of_B = torch.tensor([m == modality for m in modalities])
        for name in ("kl", "length", "ended"):
            sums[f"{name}/{modality}"] = (each[name][of_B].sum(), of_B.sum())
        for k, name in enumerate(objectives):
            rewards = rollout.rewards_BK[rollout.judged_BK[:, k] & of_B, k]
            sums[f"reward/{name}/{modality}"] = (rewards.sum(), len(rewards))
            if len(rewards) > 1:
                sums[f"reward_std/{name}/{modality}"] = (rewards.std(), 1)
    if len(rollout.group_B.unique()) < len(rollout.group_B):
        sums["alike"] = _alike(rollout)
    if experience.values_BTK is not None and experience.returns_BTK is not None:
        for k in range(experience.values_BTK.shape[-1]):
            name = "explained_variance" + (f"/{k}" if experience.values_BTK.shape[-1] > 1 else "")
            values, returns = experience.values_BTK[..., k], experience.returns_BTK[..., k]
            sums[name] = (_explained(values, returns, experience.mask_BT), 1)
    return sums


def _alike(rollout: Rollout) -> tuple[Tensor, int]:
    """Groups in which no answer is better than another: they teach nothing."""
    groups = [rollout.scores_B[rollout.group_B == number] for number in rollout.group_B.unique()]
    return torch.tensor([float(scores.max() == scores.min()) for scores in groups]).sum(), len(groups)


def _explained(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """1 - variance of (return - value) over the variance of the return."""
    error_BT = returns_BT - values_BT
    spread = masked_mean((returns_BT - masked_mean(returns_BT, mask_BT)) ** 2, mask_BT)
    residual = masked_mean((error_BT - masked_mean(error_BT, mask_BT)) ** 2, mask_BT)
    return 1 - residual / spread.clamp(min=1e-8)


def swap_metrics(gap_BK: Tensor, told_BK: Tensor, objectives: Sequence[str]) -> Sums:
    """`swap_gap/NAME`: the mean fall of the reward where an answer is read under another picture."""
    return {
        f"swap_gap/{name}": (gap_BK[:, k].sum(), told_BK[:, k].sum())
        for k, name in enumerate(objectives)
        if told_BK[:, k].any()
    }
