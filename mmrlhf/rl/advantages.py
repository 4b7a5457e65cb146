"""Rewards a token, and what is made of them backwards in time: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrlhf.tensors import rounding


def token_rewards(scores_B: Tensor, kl_BT: Tensor, kl_coef: float, mask_BT: Tensor) -> Tensor:
    """Each token's reward: minus the KL penalty, and the score on the last real token of its answer."""
    rewards_BT = (-kl_coef * kl_BT).masked_fill(~mask_BT, 0.0)
    last_B = mask_BT.sum(1) - 1
    return rewards_BT.scatter_add(
        1, last_B.clamp(min=0).unsqueeze(1), (scores_B * (last_B >= 0)).unsqueeze(1)
    )


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, equations 11 to 16): advantages and returns.

    delta_t = r_t + gamma V_{t+1} - V_t;  A_t = delta_t + gamma lam A_{t+1};  R_t = A_t + V_t,
    with V = A = 0 behind an answer's last token. `V_t` is the value before token t. The mask of a row must be a run
    of True from its start. Rewards and values are (B, T), or (B, T, K) for K critics at once.
    """
    mask = mask_BT.reshape(*mask_BT.shape, *[1] * (rewards_BT.dim() - 2))
    values_BT = values_BT.masked_fill(~mask, 0.0)
    rewards_BT = rewards_BT.masked_fill(~mask, 0.0)
    advantages_BT = torch.zeros_like(rewards_BT)
    later_B = torch.zeros_like(rewards_BT[:, 0])
    next_value_B = torch.zeros_like(later_B)
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        later_B = (delta_B + gamma * lam * later_B) * mask[:, t]
        advantages_BT[:, t] = later_B
        next_value_B = values_BT[:, t]
    return advantages_BT, advantages_BT + values_BT


def rewards_to_go(rewards_BT: Tensor, mask_BT: Tensor, gamma: float) -> Tensor:
    """The discounted sum of an answer's rewards from each token on: (B, T)."""
    return gae(rewards_BT, torch.zeros_like(rewards_BT), mask_BT, gamma, 1.0)[0]


def group_mean(values_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """For each answer the mean of its group and how many the group holds."""
    groups = int(group_B.max()) + 1
    count = values_B.new_zeros(groups).index_add(0, group_B, values_B.new_ones(len(values_B)))
    total = values_B.new_zeros(groups).index_add(0, group_B, values_B)
    return (total / count)[group_B], count[group_B]


def alike(values_B: Tensor, group_B: Tensor) -> Tensor:
    """Whether the values of an answer's group differ by rounding only: bool (B,)."""
    groups = int(group_B.max()) + 1

    def largest(of_B: Tensor) -> Tensor:
        empty = of_B.new_full((groups,), -torch.inf)
        return empty.scatter_reduce(0, group_B, of_B, "amax")[group_B]

    spread_B = largest(values_B) + largest(-values_B)
    return spread_B <= rounding(largest(values_B.abs()))


def above_group(values_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """By how much each value lies above the mean of its group, exactly 0 in groups that are alike, and how many the
    group holds: each (B,)."""
    mean_B, count_B = group_mean(values_B, group_B)
    return (values_B - mean_B).masked_fill(alike(values_B, group_B), 0.0), count_B
