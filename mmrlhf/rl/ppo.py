"""PPO's losses: pure functions of tensors (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmrlhf.rl.kl import kl_k3
from mmrlhf.tensors import masked_sum


@dataclass(frozen=True)
class PpoTerms:
    """Sums over the tokens of the mask; divide by their number for means."""

    policy: Tensor
    value: Tensor
    clipped: Tensor  # tokens whose ratio was clipped
    value_clipped: Tensor
    approx_kl: Tensor  # k3 estimate of KL(old || new)
    ratio: Tensor


def ppo_terms(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    cliprange: float,
    cliprange_value: float,
) -> PpoTerms:
    """The clipped policy loss (equation 7) and the clipped value loss, summed over the mask.

    policy: max(-A r, -A clip(r, 1 - eps, 1 + eps)), r = exp(log pi - log pi_old)
    value:  0.5 max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2), as in the authors' code
    """
    log_ratio = (logprobs_BT - old_logprobs_BT).masked_fill(~mask_BT, 0.0)
    ratio = log_ratio.exp()
    plain = -advantages_BT * ratio
    clipped = -advantages_BT * ratio.clamp(1 - cliprange, 1 + cliprange)
    near_BT = torch.minimum(
        torch.maximum(values_BT, old_values_BT - cliprange_value), old_values_BT + cliprange_value
    )
    value_plain, value_clipped = (values_BT - returns_BT) ** 2, (near_BT - returns_BT) ** 2
    return PpoTerms(
        policy=masked_sum(torch.maximum(plain, clipped), mask_BT),
        value=masked_sum(0.5 * torch.maximum(value_plain, value_clipped), mask_BT),
        clipped=masked_sum((clipped > plain).float(), mask_BT),
        value_clipped=masked_sum((value_clipped > value_plain).float(), mask_BT),
        approx_kl=masked_sum(kl_k3(old_logprobs_BT, logprobs_BT, mask_BT), mask_BT),
        ratio=masked_sum(ratio, mask_BT),
    )
