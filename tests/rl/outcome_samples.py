"""Outcomes for the tests of scoring."""

from typing import Any

import torch
from torch import Tensor

from mmrlhf.types import Outcomes


def outcomes_of(
    rewards: Any,
    group: list[int] | None = None,
    stds: Any = None,
    judged: Any = None,
    kl: Any = None,
    values: Tensor | None = None,
) -> Outcomes:
    """Answers that ended, of as many tokens as `kl` has columns: log pi - log ref of each."""
    rewards_BK = torch.tensor(rewards)
    kl_BT = torch.zeros(len(rewards_BK), 1) if kl is None else torch.tensor(kl)
    judged_BK = torch.ones_like(rewards_BK, dtype=torch.bool) if judged is None else torch.tensor(judged)
    return Outcomes(
        group_B=torch.arange(len(rewards_BK)) if group is None else torch.tensor(group),
        image_B=torch.zeros(len(rewards_BK), dtype=torch.bool),
        ended_B=torch.ones(len(rewards_BK), dtype=torch.bool),
        rewards_BK=rewards_BK,
        judged_BK=judged_BK,
        std_BK=torch.zeros_like(rewards_BK) if stds is None else torch.tensor(stds),
        gate_BK=None,
        asked_BK=None,
        mask_BT=torch.ones_like(kl_BT, dtype=torch.bool),
        logprobs_BT=kl_BT,
        ref_logprobs_BT=torch.zeros_like(kl_BT),
        values_BTK=values,
    )
