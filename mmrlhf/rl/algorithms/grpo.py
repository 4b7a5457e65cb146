"""A_i = (s_i - mean of its group) / (deviation of its group), the same at each token of an answer.

Group relative policy optimization (Shao et al. 2024, "DeepSeekMath", section 4.1): no critic; a prompt's other answers
are the baseline. s is an answer's whole reward: with `kl_in: reward` the KL penalty of all its tokens is in it, as in
verl; with `kl_in: loss`, as in the paper, it isn't. `scale: none` leaves the deviation out, which would weigh prompts
by how little their answers differ (Liu et al. 2025, "Understanding R1-Zero-like training"); `scale: batch` divides by
the deviation of all scores of the batch, as TRL does. Deviations are unbiased, plus 1e-4.

Where the scalarizer has standardised each objective within the group (`standardised` with `over: group`), the group's
deviation isn't divided by once more but the batch's, which is GDPO (Liu et al. 2026, "GDPO: Group reward-decoupled
normalization policy optimization").

Answers of a group that all score alike, but for rounding, have the advantage 0 and teach nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-4  # added to deviations


class Grpo(AlgorithmBase):
    """Advantages relative to the group."""

    needs_groups: ClassVar[bool] = True

    type: Literal["grpo"] = "grpo"
    scale: Literal["group", "batch", "none"] | None = Field(
        None,
        description="whose deviation the advantages are divided by; null: the group's, and the batch's where the "
        "scalarizer has divided by the group's already (standardised, over: group)",
    )

    def scale_invariant(self, kl_in_reward: bool) -> bool:
        return self.scale != "none" and not kl_in_reward

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        from mmrlhf.rl.advantages import above_group, group_mean

        apart_B, count_B = above_group(scored.scores_B, scored.group_B)
        scale = self.scale or ("batch" if scored.scaled_groups else "group")
        if scale == "group":
            variance_B = group_mean(apart_B**2, scored.group_B)[0] * count_B / (count_B - 1).clamp(min=1)
            apart_B = apart_B / (variance_B.sqrt() + EPSILON)
        elif scale == "batch" and len(apart_B) > 1:
            apart_B = apart_B / (scored.scores_B.std() + EPSILON)
        return apart_B.unsqueeze(1) * scored.mask_BT, None
