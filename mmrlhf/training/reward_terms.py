"""The loss of a batch of labels, kind by kind, with its metrics.

A label's loss is the mean over the members of the ensemble, each times how often its bootstrap holds the label, times
the label's weight; the update divides the sum by the sum of weights. Metrics are of the members' mean reward, and count
every label once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmrlhf.config import RewardConfig
from mmrlhf.rewards.losses import bradley_terry, centering, plackett_luce, rating_error, yes_or_no
from mmrlhf.rewards.model import RewardOutput
from mmrlhf.types import PairBatch, RankingLabel, ResponseLabels, Sums


def label_loss(out: RewardOutput, labels: PairBatch, config: RewardConfig) -> tuple[Tensor, Sums]:
    """The sum of all weighted losses of a batch, and its metrics by objective and kind of label."""
    loss = out.rewards_BKM.new_zeros(())
    sums: Sums = {}
    if len(labels.better_N):
        loss = loss + _pairs(out.rewards_BKM, labels, config, sums)
    for ranking in labels.rankings:
        loss = loss + _ranking(out.rewards_BKM, ranking, config, sums)
    if len(labels.ratings.response_N):
        loss = loss + _ratings(out.ratings_BKM, labels.ratings, config, sums)
    if len(labels.binaries.response_N):
        loss = loss + _binaries(out.rewards_BKM, labels.binaries, config, sums)
    return loss, sums


def _pairs(rewards_BKM: Tensor, labels: PairBatch, config: RewardConfig, sums: Sums) -> Tensor:
    device = rewards_BKM.device
    better, worse, objective_N, tie_N, margin_N, weight_N, copies_NM = (
        getattr(labels, name).to(device)
        for name in ("better_N", "worse_N", "objective_N", "tie_N", "margin_N", "weight_N", "copies_NM")
    )
    better_NM, worse_NM = rewards_BKM[better, objective_N], rewards_BKM[worse, objective_N]
    loss_NM = bradley_terry(better_NM, worse_NM, tie_N.unsqueeze(1), margin_N.unsqueeze(1))
    center_N = _center(config, device)[objective_N]
    whole_NM = loss_NM + center_N.unsqueeze(1) * centering(better_NM, worse_NM)
    # a tie has no right order
    right_N = better_NM.mean(1) > worse_NM.mean(1)
    _count(sums, "accuracy", config.objectives, objective_N, right_N, ~tie_N)
    _count(sums, "loss", config.objectives, objective_N, loss_NM.detach().mean(1))
    return (weight_N * (copies_NM * whole_NM).mean(1)).sum()


def _ranking(rewards_BKM: Tensor, ranking: RankingLabel, config: RewardConfig, sums: Sums) -> Tensor:
    places = [index for group in ranking.order for index in group]
    rewards_RM = rewards_BKM[places, ranking.objective]
    order, begin = [], 0
    for group in ranking.order:
        order.append(list(range(begin, begin + len(group))))
        begin += len(group)
    loss_M = plackett_luce(rewards_RM, order)
    middle_M = rewards_RM.mean(0)
    center = _center(config, rewards_RM.device)[ranking.objective]
    whole_M = loss_M + ranking.choices * center * centering(middle_M, middle_M)
    name = config.objectives[ranking.objective]
    rewards = rewards_RM.detach().mean(1).tolist()
    pairs = [
        (i, j)
        for place, group in enumerate(order)
        for later in order[place + 1 :]
        for i in group
        for j in later
    ]
    right = sum(rewards[i] > rewards[j] for i, j in pairs)
    _add(sums, f"accuracy_ranking/{name}", right, len(pairs))
    _add(sums, f"loss_ranking/{name}", loss_M.detach().mean(), ranking.choices)
    return ranking.weight * (ranking.copies_M.to(rewards_RM.device) * whole_M).mean()


def _ratings(ratings_BKM: Tensor, labels: ResponseLabels, config: RewardConfig, sums: Sums) -> Tensor:
    response_N, objective_N, value_N, weight_N, copies_NM = _to(labels, ratings_BKM.device)
    found_NM = ratings_BKM[response_N, objective_N]
    loss_NM = rating_error(found_NM, value_N.unsqueeze(1), config.rating_loss == "squared")
    off_N = (found_NM.detach().mean(1) - value_N).abs()
    _count(sums, "error_rating", config.objectives, objective_N, off_N)
    _count(sums, "loss_rating", config.objectives, objective_N, loss_NM.detach().mean(1))
    return (weight_N * (copies_NM * loss_NM).mean(1)).sum()


def _binaries(rewards_BKM: Tensor, labels: ResponseLabels, config: RewardConfig, sums: Sums) -> Tensor:
    response_N, objective_N, value_N, weight_N, copies_NM = _to(labels, rewards_BKM.device)
    rewards_NM = rewards_BKM[response_N, objective_N]
    loss_NM = yes_or_no(rewards_NM, value_N.unsqueeze(1))
    right_N = (rewards_NM.mean(1) > 0) == (value_N > 0.5)
    _count(sums, "accuracy_binary", config.objectives, objective_N, right_N)
    _count(sums, "loss_binary", config.objectives, objective_N, loss_NM.detach().mean(1))
    return (weight_N * (copies_NM * loss_NM).mean(1)).sum()


def _to(labels: ResponseLabels, device: torch.device) -> list[Tensor]:
    return [value.to(device) for value in vars(labels).values()]


def _center(config: RewardConfig, device: torch.device) -> Tensor:
    """The weight of centering by objective; a cost head's zero is set by its labels."""
    return torch.tensor(
        [0.0 if name in config.cost_heads else config.center for name in config.objectives]
    ).to(device)


def _count(
    sums: Sums,
    metric: str,
    objectives: Sequence[str],
    objective_N: Tensor,
    value_N: Tensor,
    counted_N: Tensor | None = None,
) -> None:
    for k, name in enumerate(objectives):
        own_N = (objective_N == k) if counted_N is None else (objective_N == k) & counted_N
        _add(sums, f"{metric}/{name}", (value_N * own_N).sum(), own_N.sum())


def _add(sums: Sums, name: str, value: Tensor | float, weight: Tensor | float) -> None:
    before, weighed = sums.get(name, (0.0, 0.0))
    sums[name] = (before + value, weighed + weight)
