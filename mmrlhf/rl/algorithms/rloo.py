"""A_i = R_i - mean of R_j over the other answers j to the same prompt, the same at each token of an answer.

REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al. 2024, "Back to basics", section 3): R is an answer's whole
reward, with `kl_in: reward` the KL penalty of all its tokens included. The baseline doesn't depend on the answer, so
the gradient is unbiased.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored

if TYPE_CHECKING:
    from torch import Tensor


class Rloo(AlgorithmBase):
    """Advantages against the other answers' mean."""

    needs_groups: ClassVar[bool] = True

    type: Literal["rloo"] = "rloo"

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        from mmrlhf.rl.advantages import above_group

        above_B, count_B = above_group(scored.scores_B, scored.group_B)
        # R_i - (sum - R_i) / (n - 1) = (R_i - mean) n / (n - 1)
        apart_B = above_B * count_B / (count_B - 1).clamp(min=1)
        return apart_B.unsqueeze(1) * scored.mask_BT, None
