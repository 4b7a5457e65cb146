"""The length term of the reward stage: what is penalised of a pair's reward gap is its share in the correlation of gaps
with length gaps over earlier updates.

A correlation is of many pairs, and one micro-batch may hold one. So sums of earlier updates say how gaps and lengths go
together, and each pair is pulled by them on its own: an update is the same however it is cut into micro-batches or over
processes. The first update has no sums, and no term.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmrlhf.config import RewardConfig
from mmrlhf.rewards.grounding import length_correlation, length_penalty, length_sums
from mmrlhf.types import PairBatch, Sums

DECAY = 0.9  # of the sums, from update to update


class LengthTerm:
    """Penalises what the rewards of decided comparisons have in common with their lengths."""

    def __init__(self, config: RewardConfig) -> None:
        self.objectives = config.objectives
        shape = (len(config.objectives), config.members, 4)
        self._sums_KM4 = torch.zeros(shape, dtype=torch.float64)  # of earlier updates
        self._own_KM4 = torch.zeros(shape, dtype=torch.float64)  # of the update at work, on this process

    def loss(self, rewards_BKM: Tensor, labels: PairBatch, sums: Sums) -> Tensor:
        """The penalty of each objective's decided comparisons, summed by weight; adds to the metrics the squared
        correlation that it is of, counted once a comparison."""
        found = rewards_BKM.sum() * 0.0
        tokens_B = torch.tensor([float(len(row.answer_ids)) for row in labels.rows])
        longer_N = (tokens_B[labels.better_N] - tokens_B[labels.worse_N]).to(found.device)
        for k, objective in enumerate(self.objectives):
            own = (labels.objective_N == k) & ~labels.tie_N
            if not own.any():
                continue
            gap_NM = rewards_BKM[labels.better_N[own], k] - rewards_BKM[labels.worse_N[own], k]
            length_N = longer_N[own.to(found.device)]
            self._own_KM4[k] += length_sums(gap_NM.detach(), length_N).cpu()
            earlier_M4 = self._sums_KM4[k]
            penalty_NM = length_penalty(gap_NM, length_N, earlier_M4)
            found = found + (labels.weight_N[own].to(found.device) * penalty_NM.mean(1)).sum()
            squared = float((length_correlation(earlier_M4) ** 2).mean())
            sums[f"length_penalty/{objective}"] = (squared * len(gap_NM), len(gap_NM))
        return found

    def take_own(self) -> list[list[list[float]]]:
        """This process's sums of the update at work, which is done."""
        own = self._own_KM4.tolist()
        self._own_KM4.zero_()
        return own

    def settle(self, sums: list[list[list[list[float]]]]) -> None:
        """Takes what `take_own` gave on every process into the sums."""
        self._sums_KM4 = DECAY * self._sums_KM4 + torch.tensor(sums, dtype=torch.float64).sum(0)

    def state_dict(self) -> list[list[list[float]]]:
        """The sums, as JSON values."""
        return self._sums_KM4.tolist()

    def load_state_dict(self, state: list[list[list[float]]]) -> None:
        """Takes back what `state_dict` gave."""
        self._sums_KM4 = torch.tensor(state, dtype=torch.float64)
