"""score = (r + sum_k lambda_k c_k) / (1 + sum_k lambda_k): objectives to maximise, others only held to a bound.

r is the weighted mean of what is maximised, and c_k = r_k - bound_k for E[r_k] >= bound_k, or bound_k - r_k for a cost,
E[r_k] <= bound_k. After each step the multipliers learn from the mean violation e_k = E[-c_k] of its answers, as a PID
controller does (Stooke et al. 2020, "Responsive safety in reinforcement learning by PID Lagrangian methods"):

    I_k <- (I_k + ki e_k)+      lambda_k = (kp e_k + I_k + kd (e_k - previous e_k)+)+

The integral alone is the plain Lagrangian method, gradient ascent on lambda, which lags behind a quarter of a period
and so swings around the bound; kp damps that, kd answers a violation while it rises. e_k of the terms in kp and kd is
an exponential mean (`smoothing`), since a step's answers are few. We bound I_k and lambda_k by `most`.

Division by 1 + sum lambda is Safe RLHF's (Dai et al. 2023, "Safe RLHF: Safe reinforcement learning from human
feedback"), and on by default: without it the scores grow with the multipliers, against a KL penalty and clipping
that don't. The sum is over the constraints that apply to the answer's kind of prompt.

For multipliers that stand still it is a weighted sum. On a convex front they settle where E[r_k] is the bound, so it
reaches every point by its bound, without any weights to guess. On a concave front only the two ends are ever optimal:
a policy that gives one answer swings between them, and it is the mean over time, or a policy that mixes both answers,
that meets the bound: on the chord between the ends, which in the mean is better than the dented front, and answer by
answer one extreme or the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from data_tools.errors import UserError
from mmrlhf.rewards.scalarizers.base import (
    ScalarizerBase,
    Weight,
    any_weight,
    check_names,
    weighted_mean,
    weights_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards

Gain = Annotated[float, Field(ge=0)]


class Lagrangian(ScalarizerBase):
    """The weighted mean of some objectives under constraints on the means of others."""

    type: Literal["lagrangian"] = "lagrangian"
    weights: dict[str, Weight] = Field(
        {},
        description="of what is maximised, by objective; where none is given, 1 for all without a constraint",
    )
    at_least: dict[str, float] = Field(
        {},
        description="lower bounds on the mean reward, by objective, in its units (a head's are deviations)",
    )
    at_most: dict[str, float] = Field(
        {}, description="upper bounds on the mean, by objective: of costs, such as a harm that is scored"
    )
    kp: Gain = Field(0.5, description="multiplier for each unit of (smoothed) violation")
    ki: Gain = Field(0.1, description="growth of the multiplier a step, for each unit of violation")
    kd: Gain = Field(0.0, description="multiplier for each unit by which the violation rises a step")
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="of the violation that kp and kd see: share of its earlier mean that is kept a step"
    )
    initial: float = Field(0.0, ge=0, description="multiplier of each constraint in the first step")
    most: float = Field(100.0, gt=0, description="bound on each multiplier")
    normalise: bool = Field(True, description="divide by 1 + the sum of the multipliers, as in Safe RLHF")

    _multipliers: dict[str, float] = PrivateAttr(default_factory=dict)
    _integrals: dict[str, float] = PrivateAttr(default_factory=dict)
    _smoothed: dict[str, float] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_bounds(self) -> Lagrangian:
        if not (self.at_least or self.at_most):
            raise ValueError("no constraint: give at_least or at_most, or use weighted_sum")
        if both := sorted(self.at_least.keys() & self.at_most.keys()):
            raise ValueError(f"{', '.join(both)}: stands in at_least and in at_most; it can have one bound")
        if not (self.kp or self.ki):
            raise ValueError("kp and ki are 0: the multipliers would never move")
        if not (self.kp or self.kd) and self.smoothing != type(self).model_fields["smoothing"].default:
            raise ValueError(
                "smoothing: does nothing where kp and kd are 0, which alone see the smoothed violation; leave it out"
            )
        if self.pessimism and (both := sorted(n for n in self.at_most if self.weights.get(n))):
            raise ValueError(
                f"pessimism: {', '.join(both)} is maximised by weights and bounded by at_most, so neither more nor "
                "less of it is worse; take it out of one of them, or leave pessimism 0"
            )
        return self

    @property
    def linear(self) -> bool:
        return True

    @property
    def costs(self) -> Collection[str]:
        return self.at_most

    def _constraints(self, rewards: Rewards) -> Iterator[tuple[str, int, Tensor]]:
        """Name, place and slack c (B,) of each constraint."""
        for name, bound in self.at_least.items():
            k = rewards.objectives.index(name)
            yield name, k, rewards.mean_BK[:, k] - bound
        for name, bound in self.at_most.items():
            k = rewards.objectives.index(name)
            yield name, k, bound - rewards.mean_BK[:, k]

    def _multiplier(self, name: str) -> float:
        return self._multipliers.get(name, min(self.initial, self.most))

    def combine(self, rewards: Rewards) -> Tensor:
        score_B = weighted_mean(rewards.mean_BK, weights_of(self._maximised(rewards.objectives), rewards))
        sum_B = rewards.mean_BK.new_ones(len(rewards.mean_BK))
        for name, k, slack_B in self._constraints(rewards):
            multiplier_B = self._multiplier(name) * rewards.judged_BK[:, k]
            score_B = score_B + multiplier_B * slack_B
            sum_B = sum_B + multiplier_B
        return score_B / sum_B if self.normalise else score_B

    def _maximised(self, objectives: Sequence[str]) -> dict[str, float]:
        if self.weights:
            return {name: self.weights.get(name, 0.0) for name in objectives}
        return {name: float(name not in self.at_least and name not in self.at_most) for name in objectives}

    def counted(self, rewards: Rewards) -> Tensor:
        bound_B = rewards.judged_BK[:, [k for _, k, _ in self._constraints(rewards)]].any(-1)
        return bound_B | any_weight(weights_of(self._maximised(rewards.objectives), rewards))

    def update(self, rewards: Rewards) -> dict[str, float]:
        """Moves the multiplier of each constraint that was judged on any answer; logs `multiplier/NAME` and
        `violation/NAME` (above 0: the bound isn't met)."""
        logged = {}
        for name, k, slack_B in self._constraints(rewards):
            judged_B = rewards.judged_BK[:, k]
            if judged_B.any():
                violation = -float(slack_B[judged_B].double().mean())
                self._control(name, violation)
                logged[f"violation/{name}"] = violation
            logged[f"multiplier/{name}"] = self._multiplier(name)
        return logged

    def _control(self, name: str, violation: float) -> None:
        integral = self._integrals.get(name, self.initial) + self.ki * violation
        self._integrals[name] = min(max(integral, 0.0), self.most)
        before = self._smoothed.get(name, violation)
        smoothed = self.smoothing * before + (1 - self.smoothing) * violation
        self._smoothed[name] = smoothed
        multiplier = self.kp * smoothed + self._integrals[name] + self.kd * max(smoothed - before, 0.0)
        self._multipliers[name] = min(max(multiplier, 0.0), self.most)

    def state_dict(self) -> dict[str, Any]:
        return {
            "multipliers": dict(self._multipliers),
            "integrals": dict(self._integrals),
            "smoothed": dict(self._smoothed),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._multipliers = dict(state["multipliers"])
        self._integrals = dict(state["integrals"])
        self._smoothed = dict(state["smoothed"])

    def check(self, objectives: Sequence[str]) -> None:
        check_names(self.weights, objectives, "lagrangian.weights")
        check_names(self.at_least, objectives, "lagrangian.at_least")
        check_names(self.at_most, objectives, "lagrangian.at_most")
        if not any(self._maximised(objectives).values()):
            raise UserError(
                "lagrangian: every objective has a constraint, so nothing is maximised; give weights, or fewer bounds"
            )
