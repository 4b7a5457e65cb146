"""The mini-batches of the passes over a rollout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrlhf.config import PpoConfig
from mmrlhf.types import Outcomes


@dataclass(frozen=True)
class MiniBatch:
    """An update's share of a rollout."""

    rows: list[int]  # this process's answers of it
    answers: int  # of all processes
    tokens: int


def mini_batches(config: PpoConfig, outcomes: Outcomes, places: Tensor, seed: int) -> Iterator[MiniBatch]:
    """The mini-batches of all passes, the same on every process: groups of answers to one prompt stay whole. `places`
    are this process's answers among the outcomes of all (`gather_outcomes`)."""
    order = torch.Generator().manual_seed(seed)
    groups = outcomes.group_B.unique()
    own_B = outcomes.group_B[places]
    lengths_B = outcomes.mask_BT.sum(1)
    for _ in range(config.num_ppo_epochs):
        shuffled = groups[torch.randperm(len(groups), generator=order)]
        for part in _cut(len(groups), config.num_mini_batches):
            chosen = shuffled[part]
            of_B = torch.isin(outcomes.group_B, chosen)
            rows = torch.isin(own_B, chosen).nonzero().flatten().tolist()
            yield MiniBatch(rows, int(of_B.sum()), int(lengths_B[of_B].sum()))


def _cut(count: int, parts: int) -> list[slice]:
    """As even parts as can be, none of them empty."""
    parts = min(parts, count)
    bounds = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]
