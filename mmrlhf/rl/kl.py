"""The KL to the reference: its estimate a token, and the controller of its coefficient.

In the loss (`kl_in: loss`) the estimate is added as it is, and its gradient taken through log pi alone; it isn't
multiplied by the ratio to the policy that sampled, as TRL does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmrlhf.tensors import masked_sum

LOG_RATIO = 20.0  # bound on the log of a ratio of probabilities, whose exponential then stays finite
K3 = 10.0  # bound on the k3 estimate of a token


def kl_k1(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The k1 estimate of KL(policy || reference) a token: log pi - log ref, 0 outside the mask.

    Unbiased over samples of the policy; single values may be negative, and are not clamped, since a clamp would hide
    that the policy has moved (Schulman 2020, "Approximating KL divergence").
    """
    return (logprobs_BT - ref_logprobs_BT).masked_fill(~mask_BT, 0.0)


def kl_k2(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The k2 estimate, (log pi - log ref)^2 / 2: biased, but its gradient is that of the KL in expectation."""
    return 0.5 * kl_k1(logprobs_BT, ref_logprobs_BT, mask_BT) ** 2


def kl_k3(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The k3 estimate, (r - 1) - log r with r = ref / pi: unbiased too, never negative, of less variance.

    log r is bounded to +- `LOG_RATIO` and the estimate to `K3`, as in verl: one token that the policy has all but ruled
    out would else outweigh a batch, or overflow. A bounded token has no gradient.
    """
    log_ratio = (ref_logprobs_BT - logprobs_BT).masked_fill(~mask_BT, 0.0).clamp(-LOG_RATIO, LOG_RATIO)
    return torch.clamp(log_ratio.exp() - 1 - log_ratio, max=K3)


ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def answer_kl(logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The k1 estimate summed over each answer, in nats: (B,)."""
    return masked_sum(kl_k1(logprobs_BT, ref_logprobs_BT, mask_BT), mask_BT, dim=1)


@dataclass
class KlController:
    """The KL coefficient; with a target it is steered so that an answer's mean KL comes near it.

    The rule is that of Ziegler et al. 2019 (section 2.2): coef *= 1 + 0.1 * clip(kl / target - 1, -0.2, 0.2).
    """

    coef: float
    target: float | None = None

    def update(self, kl: float) -> None:
        """Takes in the mean KL (nats an answer) of the latest rollout."""
        if self.target is not None:
            error = max(-0.2, min(0.2, kl / self.target - 1))
            self.coef *= 1 + 0.1 * error
