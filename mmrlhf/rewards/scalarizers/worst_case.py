"""score = min_k (r_k - m_k) over the objectives that apply, with a margin m_k by objective.

The egalitarian (maximin) choice: a response is worth its worst objective. It reaches the point of the front where the
shifted objectives are equal, and no other; its gradient follows one objective at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from data_tools.errors import UserError
from mmrlhf.rewards.scalarizers.base import ScalarizerBase

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
        rewards_BK, judged_BK = rewards.mean_BK, rewards.judged_BK
        margins = rewards_BK.new_tensor([self.margins.get(name, 0.0) for name in rewards.objectives])
        shifted = (rewards_BK - margins).masked_fill(~judged_BK, float("inf"))
        return shifted.min(-1).values.masked_fill(~judged_BK.any(-1), 0.0)

    def check(self, objectives: Sequence[str]) -> None:
        unknown = set(self.margins) - set(objectives)
        if unknown:
            raise UserError(
                f"worst_case.margins: no objective {', '.join(sorted(unknown))}; there are {', '.join(objectives)}"
            )
