"""What every objective shares that isn't a head of the reward model: a name, a scale, and what it says of answers.

To PPO all objectives look the same: `names` are columns of `rewards_BK` beside those of the reward model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from data_tools.config import Config
from data_tools.schema import PreferenceRecord
from mmrlhf.types import Rewards


class ObjectiveBase(Config):
    """A judge of answers. It is a config: what it needs beyond that (a model, a connection) it opens when it is first
    asked."""

    name: str = Field(
        min_length=1, description="what the objective is called in weights, metrics and reports"
    )
    mean: float = Field(0.0, description="taken off each reward, so that 0 is usual")
    std: float = Field(1.0, gt=0, description="rewards are divided by it, so that objectives weigh alike")

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives that it judges: one, unless a judge tells several at once."""
        return (self.name,)

    def score(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Rewards:
        """What it says of each record's answer, scaled by `mean` and `std`.

        Raises:
            RunError: it can't be asked, or what it answers is no reward; the message names the objective.
        """
        values = self.values(records, texts)
        raw_B1 = torch.tensor([0.0 if value is None else value for value in values]).unsqueeze(1)
        judged_B1 = torch.tensor([value is not None for value in values], dtype=torch.bool).unsqueeze(1)
        return self.scaled(raw_B1, judged_B1, torch.zeros_like(raw_B1))

    def scaled(self, raw_BK: Tensor, judged_BK: Tensor, std_BK: Tensor) -> Rewards:
        """Raw rewards and their deviations in the units of the scalarizer."""
        mean_BK = ((raw_BK - self.mean) / self.std).masked_fill(~judged_BK, 0.0)
        return Rewards(self.names, mean_BK, judged_BK, (std_BK / self.std).masked_fill(~judged_BK, 0.0))

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Sequence[float | None]:
        """The raw reward of each record's answer; None where the objective doesn't apply to it."""
        raise NotImplementedError  # of those that judge one objective and don't override `score`
