"""What every scalarizer shares: pessimism, a state that lives in checkpoints, what it asks of a prompt, and settings
by objective."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from data_tools.config import Config
from data_tools.errors import UserError

if TYPE_CHECKING:
    # configs are read by commands that never need torch, which takes seconds to import
    from torch import Tensor

    from data_tools.schema import PreferenceRecord
    from mmrlhf.types import Rewards

Weight = Annotated[float, Field(ge=0)]


class ScalarizerBase(Config):
    """Turns the rewards of several objectives into one score each. Where an objective doesn't apply, it doesn't count.

    A scalarizer that knows the deviation of a reward can hold it against the answer: with `pessimism` p every
    scalarizer works on the lower confidence bounds r_k - p s_k, in which s_k is the deviation over the members of an
    ensemble. (The uncertainty-weighted optimisation of Coste et al. 2023, "Reward model ensembles help mitigate
    overoptimization", takes off the variance, p s_k^2, which isn't in the reward's units.) Of a cost, of which more is
    worse, it is the upper bound r_k + p s_k.
    """

    pessimism: float = Field(
        0.0,
        ge=0,
        description="deviations of the judge's own uncertainty that are taken off each reward first, and added to a "
        "cost (confidence bounds); it needs reward.members above 1, or a judge that tells its deviation",
    )

    @property
    def needs_groups(self) -> bool:
        """Whether it compares the answers to a prompt, so that there must be several."""
        return False

    @property
    def linear(self) -> bool:
        """Whether the score is a weighted sum of the rewards that `seen` gives, with weights that don't depend on them:
        what a critic an objective can be put together for."""
        return False

    @property
    def scales_groups(self) -> bool:
        """Whether it divides by the deviations of the answers to each prompt, so that an algorithm needn't."""
        return False

    @property
    def needs_deviations(self) -> bool:
        """Whether a judge must tell how unsure it is."""
        return self.pessimism > 0

    @property
    def needs_gate(self) -> bool:
        """Whether the reward model must have a gate."""
        return False

    @property
    def costs(self) -> Collection[str]:
        """The objectives of which more is worse."""
        return ()

    def __call__(self, rewards: Rewards, clip: float = math.inf) -> Tensor:
        """The score of each answer, from what the judges said: (B,), differentiable by `rewards.mean_BK`."""
        return self.combine(self.seen(rewards, clip))

    def seen(self, rewards: Rewards, clip: float = math.inf) -> Rewards:
        """What is combined, what critics of an objective each learn, and what `update` learns from: the judges' rewards
        once pessimism has taken its share, then bounded to +- `clip`. In this order, since a deviation would be taken
        off a bound where it should be taken off the reward."""
        return self.pessimistic(rewards).clipped(clip)

    def pessimistic(self, rewards: Rewards) -> Rewards:
        """The rewards of which pessimism has taken its share."""
        if not self.pessimism:
            return rewards
        sign_K = by_objective(dict.fromkeys(self.costs, 1.0), rewards, -1.0)
        shift_BK = (self.pessimism * sign_K * rewards.std_BK).masked_fill(~rewards.judged_BK, 0.0)
        return replace(rewards, mean_BK=rewards.mean_BK + shift_BK)

    def combine(self, rewards: Rewards) -> Tensor:
        """The score of each answer, (B,), from the rewards that `seen` gives."""
        raise NotImplementedError  # the one abstract method of the family

    def counted(self, rewards: Rewards) -> Tensor:
        """Whether an answer was judged on an objective that counts: bool (B,). An answer without any has no score; PPO
        leaves it out."""
        return rewards.judged_BK.any(-1)

    def learn(self, rewards: Rewards, clip: float = math.inf) -> dict[str, float]:
        """Learns from what the judges said of a step's answers, once they are scored: `update`, with what was combined.
        All processes call it with the answers of all of them."""
        return self.update(self.seen(rewards, clip))

    def update(self, rewards: Rewards) -> dict[str, float]:
        """Learns from the rewards that were combined (multipliers); what it answers is logged as `scalarizer/NAME`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What it keeps from step to step, such as multipliers, as JSON values: part of the checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""

    def check(self, objectives: Sequence[str]) -> None:
        """Raises UserError where the settings name an objective that isn't there."""

    def ask(self, record: PreferenceRecord, objectives: Sequence[str], seed: int) -> Asked | None:
        """What is asked of the answers to one prompt beside the prompt itself; None: nothing, each objective weighs 1.
        `seed` belongs to the prompt's place in the feed, so that a resumed run, on any number of processes, asks the
        same.

        Raises:
            PromptRefused: it can't be asked of this prompt, which is left out.
        """
        return None


Asked = tuple["PreferenceRecord", list[float]]  # the prompt as the policy reads it, and a weight an objective


def check_names(named: Iterable[str], objectives: Sequence[str], where: str) -> None:
    """Raises UserError where a setting names an objective that the judge doesn't have."""
    if unknown := sorted(set(named) - set(objectives)):
        raise UserError(f"{where}: no objective {', '.join(unknown)}; there are {', '.join(objectives)}")


def check_weights(weights: Mapping[str, float], objectives: Sequence[str], where: str) -> None:
    """Raises UserError where a weight names an objective that the judge doesn't have, or none is above 0."""
    check_names(weights, objectives, where)
    if not any(weights.get(name, 1.0) for name in objectives):
        raise UserError(
            f"{where}: all are 0, so every answer would score 0; give one objective a weight above 0"
        )


def by_objective(values: Mapping[str, float], rewards: Rewards, default: float) -> Tensor:
    """A setting's value for each objective, `default` where nothing is said: (K,)."""
    return rewards.mean_BK.new_tensor([values.get(name, default) for name in rewards.objectives])


def weights_of(weights: Mapping[str, float], rewards: Rewards) -> Tensor:
    """How much each objective counts for each answer: (B, K). The settings' weights, 1 where nothing is said, times
    those that the prompt asks for, where it does; 0 where the objective doesn't apply."""
    weights_BK = by_objective(weights, rewards, 1.0) * rewards.judged_BK
    return weights_BK if rewards.asked_BK is None else weights_BK * rewards.asked_BK


def any_weight(weights_BK: Tensor) -> Tensor:
    """Whether an answer has an objective with a weight above 0: bool (B,)."""
    return (weights_BK > 0).any(-1)


def weighted_mean(values_BK: Tensor, weights_BK: Tensor) -> Tensor:
    """sum_k w_k v_k / sum_k w_k; 0 where all weights are 0: (B,)."""
    return (weights_BK * values_BK).sum(-1) / weights_BK.sum(-1).clamp(min=1e-8)
