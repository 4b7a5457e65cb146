"""score = inner(r; w) with weights w that are drawn for each prompt and told in it: one policy for every trade-off.

    w ~ Dirichlet(alpha),  and the policy reads "[weights: helpfulness=0.7 factuality=0.3] " before the user's words

The policy learns what to answer to each wish, so that a user chooses the trade-off when asking (`mmrlhf chat
--weights`), in place of training a policy for each (Abels et al. 2019, "Dynamic weights in multi-objective deep
reinforcement learning"; Yang et al. 2024, "Rewards-in-Context"; Guo et al. 2024, "Controllable preference
optimization"). The judge, the exact oracle and all measures read the prompt without the weights, which are no part of
what was asked. All answers to a prompt share its weights, which belong to its place in the feed. They are told in
tenths, and count as they are told.

Reaches, over its weights, what the inner scalarizer reaches: with `weighted_sum` the convex hull of a front, with
`chebyshev` concave parts too. One policy has to hold all of it, so each trade-off may come out a little worse than in a
policy of its own.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from data_tools.errors import UserError
from mmrlhf.rewards.scalarizers.asking import in_tenths, with_weights
from mmrlhf.rewards.scalarizers.base import Asked, ScalarizerBase
from mmrlhf.rewards.scalarizers.parts import Weighted, WeightedSum

if TYPE_CHECKING:
    from torch import Tensor

    from data_tools.schema import PreferenceRecord
    from mmrlhf.types import Rewards


class PreferenceConditioned(ScalarizerBase):
    """Weights that are drawn for each prompt and told in it, so that one policy serves every trade-off."""

    type: Literal["preference_conditioned"] = "preference_conditioned"
    inner: Weighted = Field(
        WeightedSum(),
        description="what combines the rewards; its own weights are multiplied with those asked for",
    )
    alpha: float = Field(
        1.0,
        gt=0,
        description="of the Dirichlet distribution: 1 draws every trade-off alike, less draws extremes more often, "
        "more draws what is balanced",
    )

    @property
    def needs_groups(self) -> bool:
        return self.inner.needs_groups

    @property
    def linear(self) -> bool:
        return self.inner.linear

    @property
    def scales_groups(self) -> bool:
        return self.inner.scales_groups

    @property
    def needs_deviations(self) -> bool:
        return self.pessimism > 0 or self.inner.needs_deviations

    @property
    def needs_gate(self) -> bool:
        return self.inner.needs_gate

    @property
    def costs(self) -> Collection[str]:
        return self.inner.costs

    def ask(self, record: PreferenceRecord, objectives: Sequence[str], seed: int) -> Asked | None:
        """The prompt with weights told in it, and the weights."""
        weights = draw(len(objectives), self.alpha, seed)
        return with_weights(record, dict(zip(objectives, weights, strict=True))), weights

    def seen(self, rewards: Rewards, clip: float = math.inf) -> Rewards:
        return self.inner.seen(self.pessimistic(rewards), clip)

    def combine(self, rewards: Rewards) -> Tensor:
        if rewards.asked_BK is None:
            raise UserError(
                "scalarizer preference_conditioned: the answers come without the weights that their prompts asked for"
            )
        return self.inner.combine(rewards)

    def counted(self, rewards: Rewards) -> Tensor:
        return self.inner.counted(rewards)

    def learn(self, rewards: Rewards, clip: float = math.inf) -> dict[str, float]:
        return self.inner.learn(self.pessimistic(rewards), clip)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)

    def check(self, objectives: Sequence[str]) -> None:
        for name in objectives:
            if not re.fullmatch(r"[^\s=,\[\]]+", name):
                raise UserError(
                    f"preference_conditioned: the objective {name!r} can't be told in a prompt; name it without "
                    "spaces, commas, '=' and brackets"
                )
        self.inner.check(objectives)


def draw(count: int, alpha: float, seed: int) -> list[float]:
    """Weights from a symmetric Dirichlet distribution, rounded to tenths that sum to 1. The same on every machine."""
    rng = random.Random(seed)
    # a gamma draw of alpha is one of alpha + 1 times u^(1 / alpha): as logs, since it may be too small for a float
    logs = [
        math.log(rng.gammavariate(alpha + 1, 1.0)) + math.log(1 - rng.random()) / alpha for _ in range(count)
    ]
    return in_tenths([math.exp(log - max(logs)) for log in logs])
