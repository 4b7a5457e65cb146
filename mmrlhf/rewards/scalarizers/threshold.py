"""Enough is enough, or nothing counts before all is well: rewards against a threshold t_k an objective.

`counts: up_to`: score = sum_k w_k min(r_k, t_k) / sum_k w_k. What lies above a threshold isn't worth anything, so an
objective that has reached its own leaves the others to be improved, and isn't pushed on to where its judge can be gamed
(satisficing; Simon 1956, "Rational choice and the structure of the environment").

`counts: once_met`: while a threshold is unmet, score = -mean_k max(t_k - r_k, 0) over the objectives with a threshold;
once all are met, score = f(sum_k w_k r_k / sum_k w_k) over all objectives, with f increasing and above 0: f(x) is 1 + x
above 0 and 1 / (1 - x) below, so that meeting the thresholds is always worth it. The score jumps there; its gradient is
that of the shortfall before and of the weighted sum after (the order of Deb 2000, "An efficient constraint
handling method for genetic algorithms": what is feasible beats what isn't).

Either reaches any point of a convex or concave front by its threshold: with one on r_1 alone, the best r_2 among
answers with r_1 >= t_1 is the point r_1 = t_1, if the weighted sum prefers r_2 there (`up_to`: if the weight of r_1 is
large enough). Between the thresholds and what lies beyond them they choose as a weighted sum does.
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


class Threshold(ScalarizerBase):
    """Rewards that count up to a threshold, or only once all thresholds are met."""

    type: Literal["threshold"] = "threshold"
    thresholds: dict[str, float] = Field(
        min_length=1,
        description="by objective, in its units (a head's are deviations); one that isn't named has none",
    )
    weights: dict[str, Weight] = Field({}, description="by objective; 1 where not given")
    counts: Literal["up_to", "once_met"] = Field(
        "up_to",
        description="each reward counts up to its threshold, or the weighted sum counts once all thresholds are met",
    )

    def combine(self, rewards: Rewards) -> Tensor:
        weights_BK = weights_of(self.weights, rewards)
        # an objective without a threshold has one that no reward reaches, or that each does
        none = float("inf") if self.counts == "up_to" else float("-inf")
        thresholds_K = by_objective(self.thresholds, rewards, none)
        if self.counts == "up_to":
            return weighted_mean(rewards.mean_BK.minimum(thresholds_K), weights_BK)
        bound_BK = rewards.judged_BK & thresholds_K.isfinite()
        short_BK = (thresholds_K.nan_to_num(neginf=0.0) - rewards.mean_BK).clamp(min=0)
        short_B = weighted_mean(short_BK, bound_BK.to(short_BK.dtype))
        unmet_B = ((rewards.mean_BK < thresholds_K) & rewards.judged_BK).any(-1)
        free_B = _above_zero(weighted_mean(rewards.mean_BK, weights_BK))
        return (-short_B).where(unmet_B, free_B).masked_fill(~rewards.judged_BK.any(-1), 0.0)

    def counted(self, rewards: Rewards) -> Tensor:
        counts_B = any_weight(weights_of(self.weights, rewards))
        if self.counts == "up_to":
            return counts_B
        bound_K = by_objective(self.thresholds, rewards, float("-inf")).isfinite()
        return counts_B | (rewards.judged_BK & bound_K).any(-1)

    def check(self, objectives: Sequence[str]) -> None:
        check_names(self.thresholds, objectives, "threshold.thresholds")
        check_weights(self.weights, objectives, "threshold.weights")


def _above_zero(values: Tensor) -> Tensor:
    """An increasing map onto numbers above 0 that leaves differences above 0 as they are: 1 + x there and 1 / (1 - x)
    below, with the slope 1 on both sides of 0."""
    return (1 + values).where(values >= 0, 1 / (1 - values.clamp(max=0)))
