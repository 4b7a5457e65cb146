"""score = sum_k w_k r_k / sum_k w_k over the objectives that apply.

The plain linear scalarization. It reaches only the convex hull of a Pareto front: trade-offs on a concave part are
never optimal for any weights (Das and Dennis 1997, "A closer look at drawbacks of minimizing weighted sums").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import (
    ScalarizerBase,
    Weight,
    any_weight,
    check_weights,
    weighted_mean,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class WeightedSum(ScalarizerBase):
    """The weighted mean of the objectives that apply."""

    type: Literal["weighted_sum"] = "weighted_sum"
    weights: dict[str, Weight] = Field({}, description="by objective; 1 where not given")

    @property
    def linear(self) -> bool:
        return True

    def combine(self, rewards: Rewards) -> Tensor:
        return weighted_mean(rewards.mean_BK, weights_of(self.weights, rewards))

    def counted(self, rewards: Rewards) -> Tensor:
        return any_weight(weights_of(self.weights, rewards))

    def check(self, objectives: Sequence[str]) -> None:
        check_weights(self.weights, objectives, "weighted_sum.weights")
