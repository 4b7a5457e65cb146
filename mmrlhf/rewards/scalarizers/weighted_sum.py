"""score = sum_k w_k r_k / sum_k w_k over the objectives that apply.

The plain linear scalarization. It reaches only the convex hull of a Pareto front: trade-offs on a concave part are
never optimal for any weights (Das and Dennis 1997, "A closer look at drawbacks of minimizing weighted sums").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import ScalarizerBase, weights_for

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class WeightedSum(ScalarizerBase):
    """The weighted mean of the objectives that apply."""

    type: Literal["weighted_sum"] = "weighted_sum"
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="by objective; 1 where not given"
    )

    def combine(self, rewards: Rewards) -> Tensor:
        rewards_BK, judged_BK = rewards.mean_BK, rewards.judged_BK
        weights = (
            rewards_BK.new_tensor(weights_for(self.weights, rewards.objectives, "weighted_sum.weights"))
            * judged_BK
        )
        return (weights * rewards_BK).sum(-1) / weights.sum(-1).clamp(min=1e-8)

    def check(self, objectives: Sequence[str]) -> None:
        weights_for(self.weights, objectives, "weighted_sum.weights")
