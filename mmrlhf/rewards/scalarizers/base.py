"""What every scalarizer shares: the order of objectives, and weights by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_tools.config import Config
from data_tools.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class ScalarizerBase(Config):
    """Turns `rewards_BK` into `scores_B`. `judged_BK` (bool) says where an objective applies; others don't count."""

    def __call__(self, rewards_BK: Tensor, judged_BK: Tensor, objectives: Sequence[str]) -> Tensor:
        """The score of each response: (B, K), (B, K) and K names to (B,)."""
        raise NotImplementedError  # the one abstract method of the family

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
