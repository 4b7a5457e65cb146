"""score = sum_k g_k r_k / sum_k g_k over the objectives that apply, with weights g read off the prompt.

A gate in the reward model gives each prompt a weight an objective, learnt from data: what matters for a question about
a picture isn't what matters for a dangerous request (Wang et al. 2024, "Interpretable preferences via multi-objective
reward modeling and mixture-of-experts", ArmoRM). `floor` f mixes it with equal weights, (1 - f) g_k + f / n over the n
objectives that apply, so that no objective is switched off by a gate that has seen little.

For each prompt it is a weighted sum, so of that prompt's trade-offs it reaches only the convex hull, and one point;
over prompts the mean rewards of the answers can lie where no single set of weights would put them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from data_tools.errors import UserError
from mmrlhf.rewards.scalarizers.base import ScalarizerBase, any_weight, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class Gated(ScalarizerBase):
    """The mean of the objectives that apply, weighted by the reward model's gate."""

    type: Literal["gated"] = "gated"
    floor: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of equal weights that is mixed in; 0: the gate's own, 1: equal weights"
    )

    @property
    def needs_gate(self) -> bool:
        return True

    @property
    def linear(self) -> bool:
        return True

    def combine(self, rewards: Rewards) -> Tensor:
        if rewards.gate_BK is None:
            raise UserError(
                "scalarizer gated: the reward model has no gate to read weights from; train it with reward.gate, or "
                "choose another scalarizer"
            )
        return weighted_mean(rewards.mean_BK, self._weights(rewards, rewards.gate_BK))

    def counted(self, rewards: Rewards) -> Tensor:
        if rewards.gate_BK is None:
            return super().counted(rewards)  # `combine` says what is missing
        return any_weight(self._weights(rewards, rewards.gate_BK))

    def _weights(self, rewards: Rewards, gate_BK: Tensor) -> Tensor:
        """The gate's weights and equal ones, each set summing to 1 over the objectives that apply: (B, K)."""
        judged_BK = rewards.judged_BK.to(gate_BK.dtype)
        gate_BK = gate_BK * judged_BK
        gate_BK = gate_BK / gate_BK.sum(-1, keepdim=True).clamp(min=1e-8)
        equal_BK = judged_BK / judged_BK.sum(-1, keepdim=True).clamp(min=1)
        return (1 - self.floor) * gate_BK + self.floor * equal_BK
