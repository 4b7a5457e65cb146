"""score = sum_k w_k log(r_k - d_k) / sum_k w_k: the weighted product of the gains over a disagreement point d, as logs.

Nash's bargaining solution: of all trade-offs the one that no change of the objectives' units would alter, in which a
relative loss of one objective needs at least as large a relative gain of another (Nash 1950, "The bargaining problem";
Kalai 1977, "Nonsymmetric Nash solutions", for weights). d is what each objective is worth without agreement, such as
the policy's rewards before training. At and below it the logarithm isn't defined; from `floor` down it goes on as its
tangent,

    log(floor) + (g - floor) / floor   for a gain g < floor,

so that score and gradient are finite, continuous and steep there: an objective near its disagreement point comes first.

Reaches, for given weights and d, one balanced point; by its weights every point of a convex front and those of a
concave one where the front is less bent than the curves of equal product. In logs of the gains it is a weighted sum,
so it reaches what is convex in them: more than a weighted sum, and less than Chebyshev.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import (
    ScalarizerBase,
    Weight,
    any_weight,
    by_objective,
    check_names,
    check_weights,
    weighted_mean,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards

DISAGREEMENT = -2.0  # of a head: deviations below the mean of the reward model's training answers


class Nash(ScalarizerBase):
    """The weighted product of gains over a disagreement point (Nash welfare), as a sum of logs."""

    type: Literal["nash"] = "nash"
    weights: dict[str, Weight] = Field({}, description="exponents by objective; 1 where not given")
    disagreement: dict[str, float] = Field(
        {},
        description="what an objective is worth without agreement, in its units (a head's are deviations); -2 where "
        "not given. Gains are counted from there",
    )
    floor: float = Field(
        0.1, gt=0, description="gains below this, losses too, count by the tangent of the logarithm"
    )

    def combine(self, rewards: Rewards) -> Tensor:
        gain_BK = rewards.mean_BK - by_objective(self.disagreement, rewards, DISAGREEMENT)
        above_BK = gain_BK.clamp(min=self.floor)
        # where the gain is below the floor, the logarithm is that of the floor and the rest its tangent
        log_BK = above_BK.log() + (gain_BK - above_BK) / self.floor
        return weighted_mean(log_BK, weights_of(self.weights, rewards))

    def counted(self, rewards: Rewards) -> Tensor:
        return any_weight(weights_of(self.weights, rewards))

    def check(self, objectives: Sequence[str]) -> None:
        check_weights(self.weights, objectives, "nash.weights")
        check_names(self.disagreement, objectives, "nash.disagreement")
