"""Advantage estimators: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrlhf.tensors import whiten


def token_rewards(scores_B: Tensor, kl_BT: Tensor, kl_coef: float, mask_BT: Tensor) -> Tensor:
    """Each token's reward: minus the KL penalty, and the score on the last real token of its answer."""
    rewards_BT = (-kl_coef * kl_BT).masked_fill(~mask_BT, 0.0)
    last_B = mask_BT.sum(1) - 1
    return rewards_BT.scatter_add(
        1, last_B.clamp(min=0).unsqueeze(1), (scores_B * (last_B >= 0)).unsqueeze(1)
    )


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float, whitened: bool = True
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, equations 11 to 16): advantages and returns, (B, T).

    delta_t = r_t + gamma V_{t+1} - V_t;  A_t = delta_t + gamma lam A_{t+1};  R_t = A_t + V_t,
    with V = A = 0 behind an answer's last token. `V_t` is the value before token t. The mask of a row must be a run
    of True from its start. Returns are of the plain advantages; `whitened` scales the advantages that are returned to
    mean 0 and variance 1 over all tokens of the batch.
    """
    values_BT = values_BT.masked_fill(~mask_BT, 0.0)
    rewards_BT = rewards_BT.masked_fill(~mask_BT, 0.0)
    advantages_BT = torch.zeros_like(rewards_BT)
    later_B = torch.zeros_like(rewards_BT[:, 0])
    next_value_B = torch.zeros_like(later_B)
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        later_B = (delta_B + gamma * lam * later_B) * mask_BT[:, t]
        advantages_BT[:, t] = later_B
        next_value_B = values_BT[:, t]
    returns_BT = advantages_BT + values_BT
    return (whiten(advantages_BT, mask_BT) if whitened else advantages_BT), returns_BT
