"""A_i = (s_i - mean of its group) / (deviation of its group), the same at each token of an answer.

Group relative policy optimization (Shao et al. 2024, "DeepSeekMath", section 4.1): no critic; a prompt's other answers
are the baseline. `scale: none` leaves the deviation out, which would weigh prompts by how little their answers differ
(Liu et al. 2025, "Understanding R1-Zero-like training"); `scale: batch` divides by the deviation of the whole batch.
Answers of a group that all score alike have the advantage 0 and teach nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored

if TYPE_CHECKING:
    from torch import Tensor


class Grpo(AlgorithmBase):
    """Advantages relative to the group."""

    needs_groups: ClassVar[bool] = True

    type: Literal["grpo"] = "grpo"
    scale: Literal["group", "batch", "none"] = Field(
        "group", description="whose deviation the advantages are divided by"
    )

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        from mmrlhf.rl.advantages import group_mean

        mean_B, count_B = group_mean(scored.scores_B, scored.group_B)
        apart_B = scored.scores_B - mean_B
        if self.scale == "group":
            # unbiased, as in the authors' code
            variance_B = group_mean(apart_B**2, scored.group_B)[0] * count_B / (count_B - 1).clamp(min=1)
            apart_B = apart_B / (variance_B.sqrt() + 1e-4)
        elif self.scale == "batch":
            apart_B = apart_B / (apart_B.pow(2).mean().sqrt() + 1e-4)
        return apart_B.unsqueeze(1) * scored.mask_BT, None
