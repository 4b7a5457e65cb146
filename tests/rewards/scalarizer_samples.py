"""Rewards for the tests of scalarizers."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.types import Rewards

NAMES = ["helpfulness", "factuality", "safety"]
JUDGED = torch.tensor([[True, True, True], [True, False, True]])


def rewards_of(
    values: Any, judged: torch.Tensor | None = None, names: Sequence[str] | None = None
) -> Rewards:
    mean_BK = torch.as_tensor(values)
    judged = torch.ones_like(mean_BK, dtype=torch.bool) if judged is None else judged
    return Rewards(tuple(names or "abc"[: mean_BK.shape[1]]), mean_BK, judged, torch.zeros_like(mean_BK))


REWARDS = rewards_of([[1.0, -2.0, 3.0], [1.0, 5.0, 3.0]], JUDGED, NAMES)


def scores(scalarizer: ScalarizerBase, rewards: Any = REWARDS) -> list[float]:
    return scalarizer(rewards).tolist()


def close(*values: float) -> Any:
    return pytest.approx(list(values), abs=1e-5)
