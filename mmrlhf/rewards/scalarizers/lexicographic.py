"""score = mean_i m_1 ... m_(i-1) u_i + m_1 ... m_(n-1) (r_n - l_n)+ over the n objectives that apply, in their order of
importance, each with a level l_i to meet:

    u_i = 1 where r_i >= l_i, 1 / (1 + l_i - r_i) below
    m_h = 1 where r_h >= l_h, 0 where r_h <= l_h - slack, linear between

So an answer that meets all levels scores 1 and what the last objective has beyond its own, and one that meets none 0 or
a little more, whether one objective applies to a prompt or three.

A later objective counts only where the earlier ones meet their levels, and none of it makes up for a level unmet: with
slack 0 an answer that meets the first i levels beats every answer that doesn't (lexicographic goal programming; Ignizio
1976, "Goal programming and extensions"; Wray et al. 2015, "Multi-objective MDPs with conditional lexicographic reward
preferences", whose slack is an allowance under the best attainable in place of under a level). u and the ramp give the
order a gradient: that of the first objective below its level, and within the slack those of the later ones too, which
fade in. An objective that has reached its level has none, but for the last.

By the first level it reaches every point of a convex or concave front: the best r_2 with r_1 >= l_1 (with slack,
somewhere between l_1 - slack and l_1). One order and one set of levels give one point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from mmrlhf.rewards.scalarizers.base import ScalarizerBase, by_objective, check_names

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class Lexicographic(ScalarizerBase):
    """Objectives in order: a later one counts only where the earlier ones are good enough."""

    type: Literal["lexicographic"] = "lexicographic"
    order: list[str] = Field(
        min_length=2, description="objectives from the most important on; one that isn't named doesn't count"
    )
    levels: dict[str, float] = Field(
        {},
        description="what is good enough, by objective, in its units; 0 where not given (of a head: the mean of the "
        "reward model's training answers, and 1 is a deviation)",
    )
    slack: float = Field(
        0.5, ge=0, description="later objectives begin to count this far below a level, and wholly at it"
    )

    @field_validator("order")
    @classmethod
    def _once_each(cls, value: list[str]) -> list[str]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands twice")
        return value

    def combine(self, rewards: Rewards) -> Tensor:
        import torch

        places = [rewards.objectives.index(name) for name in self.order]
        judged_BN = rewards.judged_BK[:, places]
        over_BN = (rewards.mean_BK - by_objective(self.levels, rewards, 0.0))[:, places]
        met_BN = (1 + over_BN / self.slack).clamp(0, 1) if self.slack else 1.0 * (over_BN >= 0)
        met_BN = met_BN.masked_fill(~judged_BN, 1.0)  # what doesn't apply stands in nobody's way
        before_BN = torch.cat([torch.ones_like(met_BN[:, :1]), met_BN.cumprod(1)[:, :-1]], 1)
        share_BN = before_BN / (1 - over_BN.clamp(max=0)) * judged_BN
        last_BN = judged_BN & (judged_BN.flip(1).cumsum(1).flip(1) == 1)
        beyond_BN = before_BN * over_BN.clamp(min=0) * last_BN
        return share_BN.sum(1) / judged_BN.sum(1).clamp(min=1) + beyond_BN.sum(1)

    def counted(self, rewards: Rewards) -> Tensor:
        return rewards.judged_BK[:, [rewards.objectives.index(name) for name in self.order]].any(-1)

    def check(self, objectives: Sequence[str]) -> None:
        check_names(self.order, objectives, "lexicographic.order")
        check_names(self.levels, self.order, "lexicographic.levels")
