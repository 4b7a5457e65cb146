"""Losses of reward models: pure functions of tensors.

All but the one of rankings work element by element on tensors of one shape (or shapes that broadcast), so that a last
dimension may hold the members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

RATING_UNIT = 0.25  # of a scale: an error that costs half a nat


def bradley_terry(better: Tensor, worse: Tensor, tie: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-log sigma(r_better - r_worse - m), and for a tie the mean of both directions without a margin.

    Bradley and Terry 1952; the margin as in Touvron et al. 2023 (Llama 2), equation 2; ties as half a win each way, so
    that a tie's best difference is 0.
    """
    gap = better - worse
    return torch.where(tie, -0.5 * (F.logsigmoid(gap) + F.logsigmoid(-gap)), -F.logsigmoid(gap - margin))


def plackett_luce(rewards: Tensor, order: Sequence[Sequence[int]]) -> Tensor:
    """-log of the probability that choosing the best of what is left, over and over, gives the ranking: rewards
    (R, ...) and groups of indices into R, the best first, to (...).

    Luce 1959 and Plackett 1975: each choice costs log sum_left exp(r) - r_chosen. Within a group of ties it is the mean
    over all orders of the group, which is exact and needs no orders: after some choices every subset of the group's
    members is as likely to be left as any other of its size. So two responses cost what `bradley_terry` says, tied or
    not. It sums R - 1 choices for R ranked responses. Takes 2^n terms for n ties (`schema.MOST_TIED`).
    """
    later = [index for group in order for index in group]
    ranked = list(later)
    left: list[list[int]] = []
    chances: list[float] = []
    for group in order:
        later = later[len(group) :]
        for size in range(1, len(group) + 1):
            for members in combinations(group, size):
                left.append([*members, *later])
                chances.append(1 / comb(len(group), size))
    absent_QR = torch.ones(len(left), len(rewards), dtype=torch.bool)
    for choice, members in enumerate(left):
        absent_QR[choice, members] = False
    shape = (*absent_QR.shape, *[1] * (rewards.dim() - 1))
    absent = absent_QR.to(rewards.device).reshape(shape)
    bests = rewards.unsqueeze(0).masked_fill(absent, float("-inf")).logsumexp(1)
    return torch.tensordot(bests.new_tensor(chances), bests, 1) - rewards[ranked].sum(0)


def rating_error(predicted: Tensor, rating: Tensor, squared: bool = False) -> Tensor:
    """Half the squared error of a rating on a scale from 0 to 1, in units of a quarter of the scale; beyond one unit
    it grows in proportion (Huber 1964), unless `squared`.

    The unit puts ratings on the footing of the other losses: it is -log of a normal density of that deviation, but for
    a constant.
    """
    error = (predicted - rating) / RATING_UNIT
    return 0.5 * error**2 if squared else F.huber_loss(error, torch.zeros_like(error), reduction="none")


def yes_or_no(reward: Tensor, yes: Tensor) -> Tensor:
    """Binary cross-entropy of sigma(r): -log sigma(r) where `yes` is 1, -log sigma(-r) where it is 0.

    On a head of costs C = -r these are the two sign terms of Safe RLHF (Dai et al. 2023, the loss of its cost model),
    where yes means safe: its loss is `bradley_terry` of a pair plus this of each of the two answers, so that what is
    safe has costs below 0 and what isn't has costs above.
    """
    return F.binary_cross_entropy_with_logits(reward, yes.expand_as(reward), reduction="none")


def centering(better: Tensor, worse: Tensor) -> Tensor:
    """(r_better + r_worse)^2, which keeps rewards near 0 (Eisenstein et al. 2023, "Helping or Herding?")."""
    return (better + worse) ** 2
