"""What a rollout tells of the run, before any update: by objective and by modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data_tools.oracle import gold
from mmrlhf.rl.advantages import alike
from mmrlhf.rl.kl import answer_kl
from mmrlhf.tensors import masked_mean, masked_sum
from mmrlhf.types import Outcomes, Rewards, Rollout, Row, Sums


def mean_kl(outcomes: Outcomes) -> float:
    """The mean KL to the reference, in nats an answer."""
    return _kl_B(outcomes).mean().item()


def _kl_B(outcomes: Outcomes) -> Tensor:
    return answer_kl(outcomes.logprobs_BT, outcomes.ref_logprobs_BT, outcomes.mask_BT)


def rollout_metrics(
    outcomes: Outcomes,
    scores_B: Tensor,
    returns_BTK: Tensor | None,
    objectives: Sequence[str],
    learns_BK: Tensor | None = None,
) -> Sums:
    """Means a rollout: `reward/NAME/MODALITY` and its deviation `reward_std/...`, score, KL to the reference (nats an
    answer), length (tokens), the share of answers that end, of groups whose answers all score alike, and the critics'
    explained variance, over the answers that each learns from (`learns_BK`)."""
    lengths_B, ended_B = outcomes.mask_BT.sum(1).float(), outcomes.ended_B.float()
    each = {"score": scores_B, "kl": _kl_B(outcomes), "length": lengths_B, "ended": ended_B}
    sums: Sums = {name: (values.sum(), len(values)) for name, values in each.items()}
    for modality, of_B in (("image-text", outcomes.image_B), ("text", ~outcomes.image_B)):
        for name in ("kl", "length", "ended"):
            sums[f"{name}/{modality}"] = (each[name][of_B].sum(), of_B.sum())
        for k, name in enumerate(objectives):
            rewards = outcomes.rewards_BK[outcomes.judged_BK[:, k] & of_B, k]
            sums[f"reward/{name}/{modality}"] = (rewards.sum(), len(rewards))
            if len(rewards) > 1:
                sums[f"reward_std/{name}/{modality}"] = (rewards.std(), 1)
    if len(outcomes.group_B.unique()) < len(outcomes.group_B):
        sums["alike"] = _alike(outcomes.group_B, scores_B)
    if outcomes.values_BTK is not None and returns_BTK is not None:
        for k in range(outcomes.values_BTK.shape[-1]):
            name = "explained_variance" + (f"/{k}" if outcomes.values_BTK.shape[-1] > 1 else "")
            values, returns = outcomes.values_BTK[..., k], returns_BTK[..., k]
            of_BT = outcomes.mask_BT if learns_BK is None else outcomes.mask_BT & learns_BK[:, k : k + 1]
            if of_BT.any():
                sums[name] = (_explained(values, returns, of_BT), 1)
    return sums


def gold_metrics(rollout: Rollout) -> Sums:
    """`gold/NAME`: the mean of the exact score (`data_tools.oracle`) of one process's answers, where there is one. A
    learned reward that rises while this doesn't is being gamed."""
    found: dict[str, list[float]] = {}
    for row, text in zip(rollout.rows, rollout.texts, strict=True):
        for name, score in gold(row.prompt.record, text).items():
            found.setdefault(f"gold/{name}", []).append(score)
    return {name: (sum(scores), len(scores)) for name, scores in found.items()}


def _alike(group_B: Tensor, scores_B: Tensor) -> tuple[Tensor, int]:
    """Groups in which no answer is better than another, but for rounding: they teach nothing."""
    alike_B, groups = alike(scores_B, group_B), group_B.unique()
    return torch.stack([alike_B[group_B == number].all() for number in groups]).sum(), len(groups)


def clip_metrics(rewards: Rewards, clip: float) -> Sums:
    """`clipped/NAME`: the share of an objective's rewards that lie beyond +- `clip`. `rewards` are as they are
    combined, but for the bound."""
    beyond_BK = rewards.judged_BK & (rewards.mean_BK.abs() > clip)
    return {
        f"clipped/{name}": (beyond_BK[:, k].sum(), rewards.judged_BK[:, k].sum())
        for k, name in enumerate(rewards.objectives)
    }


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


def entropy_metrics(entropy_BT: Tensor, mask_BT: Tensor, rows: Sequence[Row]) -> Sums:
    """`entropy` and `entropy/MODALITY`: the mean entropy a token of the policy that answered, in nats."""
    sums: Sums = {"entropy": (masked_sum(entropy_BT, mask_BT), mask_BT.sum())}
    for modality in sorted({row.prompt.modality for row in rows}):
        of_B = torch.tensor([row.prompt.modality == modality for row in rows], device=mask_BT.device)
        sums[f"entropy/{modality}"] = (masked_sum(entropy_BT[of_B], mask_BT[of_B]), mask_BT[of_B].sum())
    return sums
