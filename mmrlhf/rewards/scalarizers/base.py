"""What every scalarizer shares: pessimism, a state that lives in checkpoints, and weights by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from data_tools.config import Config
from data_tools.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards


class ScalarizerBase(Config):
    """Turns the rewards of several objectives into one score each. Where an objective doesn't apply, it doesn't count.

    A scalarizer that knows the deviation of a reward can hold it against the answer: with `pessimism` p every
    scalarizer works on the lower confidence bounds r_k - p s_k (Coste et al. 2023, "Reward model ensembles help
    mitigate overoptimization"), in which s_k is the deviation over the members of an ensemble.
    """

    pessimism: float = Field(
        0.0,
        ge=0,
        description="deviations of the judge's own uncertainty that are taken off each reward first (a lower "
        "confidence bound); it needs reward.members above 1, or a judge that tells its deviation",
    )

    def __call__(self, rewards: Rewards) -> Tensor:
        """The score of each answer: (B,), differentiable by `rewards.mean_BK`."""
        if self.pessimism:
            rewards = replace(rewards, mean_BK=rewards.mean_BK - self.pessimism * rewards.std_BK)
        return self.combine(rewards)

    def combine(self, rewards: Rewards) -> Tensor:
        """The score of each answer, (B,), from rewards of which pessimism has taken its share."""
        raise NotImplementedError  # the one abstract method of the family

    def update(self, rewards: Rewards) -> dict[str, float]:
        """Learns from the answers of a step, once they are scored (multipliers, running means); what it answers is
        logged as `scalarizer/NAME`. All processes call it with the answers of all of them."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it keeps from step to step, such as multipliers, as JSON values: part of the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""

    def check(self, objectives: Sequence[str]) -> None:
        """Raises UserError where the settings name an objective that isn't there."""


def weights_for(weights: dict[str, float], objectives: Sequence[str], where: str) -> list[float]:
    """The weight of each objective, 1 where nothing is said.

    Raises:
        UserError: a weight for an objective that the reward model doesn't have.
    """
    unknown = set(weights) - set(objectives)
    if unknown:
        raise UserError(
            f"{where}: no objective {', '.join(sorted(unknown))}; there are {', '.join(objectives)}"
        )
    return [weights.get(name, 1.0) for name in objectives]
