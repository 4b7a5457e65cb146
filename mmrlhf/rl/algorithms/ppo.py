"""A_t by generalized advantage estimation from a learned critic (Schulman et al. 2016 and 2017).

With one critic it learns the value of the scalarized score. With a critic an objective, each learns its own
objective's value, and advantages are taken an objective and put together last: A = sum_k w_k A_k, where w_k is the
derivative of the scalarized score by objective k. What that maximises is the weighted sum of the rewards, so the
scalarizer must be one (`ScalarizerBase.linear`): of a score that isn't linear, such as the worst case, the derivative
at an answer says nothing of how far the answer is better than another, and the sum can rise where the score falls. A
critic an objective is easier to learn than one of a mixture that changes from prompt to prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored, Share

if TYPE_CHECKING:
    from torch import Tensor


class Ppo(AlgorithmBase):
    """PPO with a critic."""

    has_critic: ClassVar[bool] = True

    type: Literal["ppo"] = "ppo"
    gamma: Share = Field(1.0, description="discount")
    lam: Share = Field(0.95, description="lambda of GAE")
    critics: Literal["single", "per_objective"] = Field(
        "single", description="one critic of the score, or one for each objective"
    )

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        from mmrlhf.rl.advantages import gae
        from mmrlhf.tensors import whiten

        assert scored.values_BTK is not None
        advantages_BTK, returns_BTK = gae(
            scored.rewards_BTK, scored.values_BTK, scored.mask_BT, self.gamma, self.lam
        )
        advantages_BT = (advantages_BTK * scored.weights_BK.unsqueeze(1)).sum(-1)
        return whiten(advantages_BT, scored.mask_BT), returns_BTK
