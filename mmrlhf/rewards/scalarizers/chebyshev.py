"""score = -mu log( mean_k exp( w_k (z_k - r_k) / mu ) ), the smooth Chebyshev distance to a reference point z, negated.

With mu = 0 it is the hard one, -max_k w_k (z_k - r_k): the worst weighted shortfall counts, and the gradient follows it
alone. Unlike a weighted sum either reaches every Pareto-optimal point, concave parts too: the one where the weighted
shortfalls are equal, for a reference point that no answer passes (Miettinen 1999, "Nonlinear multiobjective
optimization", section 3.4). The smooth form lets every objective keep a gradient, and bends the choice towards a
weighted sum's as mu grows: on a concave front mu must be small beside the front's extent (Lin et al. 2024, "Smooth
Tchebycheff scalarization for multi-objective optimization"). We take the mean over the objectives that apply in place
of their sum: it differs by a constant for a fixed set, and keeps prompts with one objective comparable with prompts
with three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import (
    ScalarizerBase,
    any_weight,
    by_objective,
    check_names,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards

REFERENCE = 2.0  # of a head: deviations above the mean of the reward model's training answers


class Chebyshev(ScalarizerBase):
    """Smooth or hard Chebyshev scalarization."""

    type: Literal["chebyshev"] = "chebyshev"
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="by objective; 1 where not given"
    )
    reference: float | dict[str, float] = Field(
        REFERENCE,
        description="the aspired value of each reward, in its units (a head's are deviations): one for all, or by "
        "objective (2 where not given)",
    )
    mu: float = Field(
        0.5,
        ge=0,
        description="smoothing; towards 0 only the worst objective counts, and 0 is the hard Chebyshev distance",
    )

    def combine(self, rewards: Rewards) -> Tensor:
        weights_BK = weights_of(self.weights, rewards)
        by_name = self.reference if isinstance(self.reference, dict) else {}
        default = REFERENCE if isinstance(self.reference, dict) else self.reference
        short_BK = weights_BK * (by_objective(by_name, rewards, default) - rewards.mean_BK)
        counts_BK = weights_BK > 0  # not where it doesn't apply, nor where a prompt asks for none of it
        short_BK = short_BK.masked_fill(~counts_BK, float("-inf"))
        count_B = counts_BK.sum(-1)
        if self.mu == 0:
            score_B = -short_BK.amax(-1)
        else:
            score_B = -self.mu * ((short_BK / self.mu).logsumexp(-1) - count_B.clamp(min=1).log())
        return score_B.masked_fill(count_B == 0, 0.0)

    def counted(self, rewards: Rewards) -> Tensor:
        return any_weight(weights_of(self.weights, rewards))

    def check(self, objectives: Sequence[str]) -> None:
        check_names(self.weights, objectives, "chebyshev.weights")
        if isinstance(self.reference, dict):
            check_names(self.reference, objectives, "chebyshev.reference")
