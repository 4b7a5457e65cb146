"""score = sum_k w_k (r_k - m_k) / (s_k + 1e-4) / sum_k w_k, with the mean m and deviation s of each objective.

Weights mean what they say only between rewards of like spread. A reward model's rewards are normalised on its training
answers, but a policy's own answers may spread far less on one objective than on another, so that the wider one decides.
`over` says whose mean and deviation:

- `group`: the answers to the same prompt. Each objective is normalised within the group before the sum, not the sum
  after it, so that answers that differ in one objective only aren't taken for equal to those that differ in another
  (Liu et al. 2026, "GDPO: Group reward-decoupled normalization policy optimization"). The sum is then normalised over
  the batch and not within the group once more, which is what GRPO does where its `scale` isn't set: else two answers
  that differ by 1 or by 100 would come out alike. An objective on which the answers of a group don't differ, but for
  rounding, teaches nothing there.
- `batch`: all answers of the step.
- `running`: all answers of the training so far, this step's included; slow to change, so that a score keeps its
  meaning (as targets are in PopArt; van Hasselt et al. 2016, "Learning values across many orders of magnitude").
  Welford's sums, kept in the checkpoint.

Here, and here alone, rewards are bounded (`ppo.score_clip`) after they are standardised and not before: an objective
that isn't scaled, such as a length in words, may lie beyond the bound with all its answers, which would then be alike;
and an answer that differs from thousands that were alike is many deviations away from them.

Mean and deviation are constants to the gradient: one answer hardly moves them, and a group's standardised rewards sum
to 0 whatever they are. Within one step the score is a weighted sum with the weights w_k / s_k, so it reaches what that
reaches: the convex hull of a front, and on a concave front its ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from mmrlhf.rewards.scalarizers.base import (
    ScalarizerBase,
    Weight,
    any_weight,
    check_weights,
    weighted_mean,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards

EPSILON = 1e-4  # added to deviations, as in GRPO
Moments = tuple[float, float, float]  # how many answers, their mean, and the sum of squares around it


class Standardised(ScalarizerBase):
    """The weighted mean of rewards that are standardised objective by objective."""

    type: Literal["standardised"] = "standardised"
    weights: dict[str, Weight] = Field({}, description="by objective; 1 where not given")
    over: Literal["running", "group", "batch"] = Field(
        "running",
        description="whose mean and deviation: of all answers so far, of the answers to the same prompt (needs "
        "answers_per_prompt of 2 or more), or of the step's",
    )

    _moments: dict[str, Moments] = PrivateAttr(default_factory=dict)

    @property
    def needs_groups(self) -> bool:
        return self.over == "group"

    @property
    def linear(self) -> bool:
        return True  # in the standardised rewards, which are what critics learn

    @property
    def scales_groups(self) -> bool:
        return self.over == "group"

    def seen(self, rewards: Rewards, clip: float = math.inf) -> Rewards:
        """The standardised rewards, after pessimism, bounded to +- `clip`; 0 where the objective wasn't judged, or what
        it is measured against differs by rounding only."""
        from mmrlhf.tensors import rounding

        rewards = self.pessimistic(rewards)
        mean, std = _of_groups(rewards) if self.over == "group" else self._of_all(rewards)
        standard_BK = (rewards.mean_BK - mean) / (std + EPSILON)
        alike = std <= rounding(mean)
        return replace(rewards, mean_BK=standard_BK.masked_fill(~rewards.judged_BK | alike, 0.0)).clipped(
            clip
        )

    def combine(self, rewards: Rewards) -> Tensor:
        return weighted_mean(rewards.mean_BK, weights_of(self.weights, rewards))

    def _of_all(self, rewards: Rewards) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each objective over the step's answers, and over those before where they run on."""
        moments = self._moments_with(rewards)
        found = [moments.get(name, (0.0, 0.0, 0.0)) for name in rewards.objectives]
        stds = [(squares / max(count - 1, 1)) ** 0.5 for count, _, squares in found]
        new = rewards.mean_BK.new_tensor
        return new([mean for _, mean, _ in found]), new(stds)

    def _moments_with(self, rewards: Rewards) -> dict[str, Moments]:
        """What is known of each objective once these answers are counted in."""
        found = dict(self._moments)
        for k, name in enumerate(rewards.objectives):
            values = rewards.mean_BK[rewards.judged_BK[:, k], k].detach().double()
            if len(values):
                mean = float(values.mean())
                own = (float(len(values)), mean, float(((values - mean) ** 2).sum()))
                found[name] = _joined(found[name], own) if name in found else own
        return found

    def learn(self, rewards: Rewards, clip: float = math.inf) -> dict[str, float]:
        """Counts the answers in, as they were before they were standardised; logs `mean/NAME` and `std/NAME`."""
        if self.over != "running":
            return {}
        self._moments = self._moments_with(self.pessimistic(rewards))
        logged: dict[str, float] = {}
        for name, (count, mean, squares) in self._moments.items():
            logged |= {f"mean/{name}": mean, f"std/{name}": (squares / max(count - 1, 1)) ** 0.5}
        return logged

    def state_dict(self) -> dict[str, Any]:
        return {"moments": {name: list(moments) for name, moments in self._moments.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._moments = {name: tuple(moments) for name, moments in state["moments"].items()}

    def counted(self, rewards: Rewards) -> Tensor:
        return any_weight(weights_of(self.weights, rewards))

    def check(self, objectives: Sequence[str]) -> None:
        check_weights(self.weights, objectives, "standardised.weights")


def _joined(first: Moments, second: Moments) -> Moments:
    """The moments of both (Chan et al. 1983, "Algorithms for computing the sample variance")."""
    count = first[0] + second[0]
    apart = second[1] - first[1]
    mean = first[1] + apart * second[0] / count
    return count, mean, first[2] + second[2] + apart**2 * first[0] * second[0] / count


def _of_groups(rewards: Rewards) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation of each objective over the answers to the same prompt: each (B, K)."""
    import torch

    from mmrlhf.rl.advantages import group_mean

    group_B = torch.arange(len(rewards.mean_BK)) if rewards.group_B is None else rewards.group_B
    values_BK, judged_BK = rewards.mean_BK.detach(), rewards.judged_BK
    columns = []
    for values_B, judged_B in zip(values_BK.unbind(1), judged_BK.to(values_BK.dtype).unbind(1), strict=True):
        share_B, size_B = group_mean(judged_B, group_B)
        mean_B = group_mean(values_B * judged_B, group_B)[0] / share_B.clamp(min=1e-8)
        squares_B = group_mean(judged_B * (values_B - mean_B) ** 2, group_B)[0] * size_B
        columns.append((mean_B, (squares_B / (share_B * size_B - 1).clamp(min=1)).sqrt()))
    means, stds = zip(*columns, strict=True)
    return torch.stack(means, 1), torch.stack(stds, 1)
