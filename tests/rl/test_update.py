"""The loss of an update against numbers worked out by hand."""

from typing import Any

import pytest
import torch

from mmrlhf.config import PpoConfig
from mmrlhf.models.policy import PolicyOutput
from mmrlhf.rl.update import update_loss
from mmrlhf.types import ExperienceBatch

ONE = torch.zeros(2, 1)
MASK = torch.ones(2, 1, dtype=torch.bool)


def loss(
    values: Any, learns: Any, new: Any = 0.0, advantages: Any = 0.0, **settings: Any
) -> tuple[float, Any]:
    """Of two answers of one token, whose returns are 3 for each critic."""
    values_BTK = torch.tensor(values).unsqueeze(1)
    experience = ExperienceBatch(
        rows=(),
        mask_BT=MASK,
        logprobs_BT=ONE,
        ref_logprobs_BT=ONE,
        advantages_BT=ONE + advantages,
        values_BTK=values_BTK,
        returns_BTK=torch.full_like(values_BTK, 3.0),
        learns_BK=None if learns is None else torch.tensor(learns),
    )
    out = PolicyOutput(ONE + new, None, values_BTK)
    config = PpoConfig.model_validate({"vf_coef": 1.0, **settings})
    total, sums = update_loss(out, MASK, experience, config, config.kl_coef)
    return total.item(), {name: float(a) / float(b) for name, (a, b) in sums.items()}


def test_a_critic_learns_from_what_was_judged_alone() -> None:
    """Errors of 1, 2 and 3 of the first critic and the second: halves of their squares."""
    values = [[2.0, 1.0], [0.0, 2.0]]
    total, means = loss(values, None)
    assert total == pytest.approx(0.5 + 2.0 + 4.5 + 0.5)
    assert means["loss/value"] == pytest.approx(7.5 / 4)
    total, means = loss(values, [[True, False], [True, True]])
    assert total == pytest.approx(0.5 + 4.5 + 0.5)
    assert means["loss/value"] == pytest.approx(5.5 / 3)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("kl_in", ["reward", "loss"])
def test_a_token_that_runs_away_leaves_the_loss_finite(advantage: float, kl_in: str) -> None:
    """A log ratio of 200, whose exponential is beyond float32."""
    for moved in (200.0, -200.0):
        total, means = loss(
            [[3.0], [3.0]],
            None,
            moved,
            advantage,
            kl_in=kl_in,
            kl_estimator="k3" if kl_in == "loss" else "k1",
        )
        assert torch.tensor([total, *means.values()]).isfinite().all()
