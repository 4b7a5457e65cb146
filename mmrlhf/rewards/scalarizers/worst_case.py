"""score = min_k (r_k - m_k) over the objectives that apply, with a margin m_k by objective.

The egalitarian (maximin) choice: a response is worth its worst objective. It reaches the point of the front where the
shifted objectives are equal, on convex and concave fronts alike, and no other; its gradient follows one objective at a
time. Margins move that point along the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import ScalarizerBase, by_objective, check_names

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class WorstCase(ScalarizerBase):
    """The least of the objectives that apply."""

    type: Literal["worst_case"] = "worst_case"
    margins: dict[str, float] = Field(
        {}, description="taken off an objective's reward first; 0 where not given"
    )

    def combine(self, rewards: Rewards) -> Tensor:
        judged_BK = rewards.judged_BK
        shifted_BK = rewards.mean_BK - by_objective(self.margins, rewards, 0.0)
        least_B = shifted_BK.masked_fill(~judged_BK, float("inf")).min(-1).values
        return least_B.masked_fill(~judged_BK.any(-1), 0.0)

    def check(self, objectives: Sequence[str]) -> None:
        check_names(self.margins, objectives, "worst_case.margins")
