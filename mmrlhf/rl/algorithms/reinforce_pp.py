"""A_t = sum of the rewards from token t on, less the group's mean where asked, whitened over the batch.

REINFORCE++ (Hu et al. 2025, arXiv:2501.03262): no critic, the KL penalty in each token's reward, and normalisation
over the whole batch instead of a prompt's few answers, which is steadier where groups are small; it works with one
answer a prompt. With `baseline: group` (REINFORCE++-baseline) the mean of the whole rewards of its group is taken off
first, as in verl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored, Share

if TYPE_CHECKING:
    from torch import Tensor


class ReinforcePp(AlgorithmBase):
    """Rewards to go, whitened over the batch."""

    type: Literal["reinforce_pp"] = "reinforce_pp"
    gamma: Share = Field(1.0, description="discount")
    baseline: Literal["none", "group"] = Field("none", description="what is taken off each reward to go")

    @property
    def compares_answers(self) -> bool:
        return self.baseline == "group"

    def scale_invariant(self, kl_in_reward: bool) -> bool:
        # each token of an answer has the same reward to go, so whitening takes out what all scores share
        return self.gamma == 1 and not kl_in_reward

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        from mmrlhf.rl.advantages import above_group, rewards_to_go
        from mmrlhf.tensors import whiten

        to_go_BT = rewards_to_go(scored.rewards_BTK.sum(-1), scored.mask_BT, self.gamma)
        if self.baseline == "group":
            above_B, _ = above_group(scored.scores_B, scored.group_B)
            # the mean of the group, or in groups that are alike the score itself, so that no rounding is left of it
            to_go_BT = to_go_BT - (scored.scores_B - above_B).unsqueeze(1)
        return whiten(to_go_BT, scored.mask_BT), None
