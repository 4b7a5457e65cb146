"""Losses of reward models: pure functions of tensors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bradley_terry(better_N: Tensor, worse_N: Tensor, tie_N: Tensor) -> Tensor:
    """-log sigma(r_better - r_worse), and for a tie the mean of both directions: (N,).

    Bradley and Terry 1952; ties as half a win each way, so that a tie's best difference is 0.
    """
    gap = better_N - worse_N
    win = -F.logsigmoid(gap)
    return win.where(~tie_N, 0.5 * (win - F.logsigmoid(-gap)))


def centering(better_N: Tensor, worse_N: Tensor) -> Tensor:
    """(r_better + r_worse)^2, which keeps rewards near 0 (Eisenstein et al. 2023, "Helping or Herding?"): (N,)."""
    return (better_N + worse_N) ** 2
