"""What every algorithm shares: what it is given, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from data_tools.config import Config

if TYPE_CHECKING:
    # configs are read by commands that never need torch, which takes seconds to import
    from torch import Tensor

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Scored:
    """Answers with their scores, before any update: B answers of up to T tokens, K critics."""

    scores_B: Tensor  # scalarized, penalties included, and the KL of the answer where that is in the reward
    rewards_BTK: (
        Tensor  # each token's reward for each critic, the KL penalty included where it is in the reward
    )
    values_BTK: Tensor | None  # before each token; None without a critic
    weights_BK: Tensor  # how much each critic's advantages count for each answer
    mask_BT: Tensor  # bool, True at real answer tokens
    group_B: Tensor  # int64: answers to the same prompt have the same number
    scaled_groups: bool = False  # the scalarizer has divided by the deviations of each group already


class AlgorithmBase(Config):
    """Turns scores into advantages."""

    has_critic: ClassVar[bool] = False  # learns values
    needs_groups: ClassVar[bool] = False  # several answers a prompt

    @property
    def compares_answers(self) -> bool:
        """Whether it compares the answers to a prompt, so that there must be several."""
        return self.needs_groups

    @property
    def critic_an_objective(self) -> bool:
        """Whether each objective has a critic, and not the score alone."""
        return self.has_critic and getattr(self, "critics", "single") == "per_objective"

    def scale_invariant(self, kl_in_reward: bool) -> bool:
        """Whether advantages stay as they are when all scores are shifted and scaled alike. `kl_in_reward`: the scores
        stand beside a KL penalty that isn't scaled with them."""
        return False

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        """Advantages (B, T), 0 outside the mask, and what the critics learn: returns (B, T, K), None without any."""
        raise NotImplementedError  # the one abstract method of the family
