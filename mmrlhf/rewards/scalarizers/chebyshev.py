"""score = -mu log( mean_k exp( w_k (z_k - r_k) / mu ) ), the smooth Chebyshev distance to a reference point z, negated.

As mu falls to 0 it becomes -max_k w_k (z_k - r_k): the worst weighted shortfall counts. Unlike a weighted sum it
reaches every Pareto-optimal point, concave parts too, and the smooth form lets every objective keep a gradient
(Lin et al. 2024, "Smooth Tchebycheff scalarization for multi-objective optimization"). We take the mean over the
objectives that apply in place of their sum: it differs by a constant for a fixed set, and keeps prompts with one
objective comparable with prompts with three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import ScalarizerBase, weights_for

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class Chebyshev(ScalarizerBase):
    """Smooth Chebyshev scalarization of normalised rewards."""

    type: Literal["chebyshev"] = "chebyshev"
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="by objective; 1 where not given"
    )
    reference: float = Field(2.0, description="the aspired value of each normalised reward, in deviations")
    mu: float = Field(0.5, gt=0, description="smoothing; towards 0 only the worst objective counts")

    def combine(self, rewards: Rewards) -> Tensor:
        rewards_BK, judged_BK = rewards.mean_BK, rewards.judged_BK
        weights = rewards_BK.new_tensor(weights_for(self.weights, rewards.objectives, "chebyshev.weights"))
        short = (weights * (self.reference - rewards_BK) / self.mu).masked_fill(~judged_BK, float("-inf"))
        count = judged_BK.sum(-1)
        score = -self.mu * (short.logsumexp(-1) - count.clamp(min=1).log())
        return score.masked_fill(count == 0, 0.0)

    def check(self, objectives: Sequence[str]) -> None:
        weights_for(self.weights, objectives, "chebyshev.weights")
