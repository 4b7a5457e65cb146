"""The losses of a policy and its critics, a token each: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmrlhf.rl.kl import LOG_RATIO


def policy_loss(
    log_ratio_BT: Tensor, advantages_BT: Tensor, low: float, high: float, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """The clipped policy loss (B, T), and where it is clipped: bool (B, T).

    max(-A r, -A clip(r, 1 - low, 1 + high)), r = exp(log_ratio) (Schulman et al. 2017, equation 7, there with low =
    high; apart in Yu et al. 2025, "DAPO"). With `dual_clip` c the loss of a token with A < 0 is at most -c A, so that
    one token whose ratio has run away can't rule the update (Ye et al. 2020, "Mastering complex control", equation 5).
    The log ratio is bounded to +- `LOG_RATIO` first, as in verl, so that such a token can't make the loss infinite
    either; beyond the bound it has no gradient.
    """
    ratio = log_ratio_BT.clamp(-LOG_RATIO, LOG_RATIO).exp()
    plain = -advantages_BT * ratio
    clipped = -advantages_BT * ratio.clamp(1 - low, 1 + high)
    loss, cut = torch.maximum(plain, clipped), clipped > plain
    if dual_clip is not None:
        bound = -dual_clip * advantages_BT
        over = (advantages_BT < 0) & (loss > bound)
        loss, cut = torch.where(over, bound, loss), cut | over
    return loss, cut


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """The clipped value loss and where it is clipped, both of the values' shape.

    0.5 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2), as in the code of Schulman et al. 2017.
    """
    near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    plain, clipped = (values - returns) ** 2, (near - returns) ** 2
    return 0.5 * torch.maximum(plain, clipped), clipped > plain
