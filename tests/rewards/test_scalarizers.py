"""Scalarizers against numbers worked out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from data_tools.config import parse_config
from data_tools.errors import UserError
from mmrlhf.config import PpoVariant
from mmrlhf.rewards.scalarizers import Chebyshev, WeightedSum, WorstCase
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


def test_weighted_sum() -> None:
    # (1 - 2 + 3) / 3, and without factuality (1 + 3) / 2
    torch.testing.assert_close(WeightedSum()(REWARDS), torch.tensor([0.6666667, 2.0]))
    # (1 - 6 + 3) / 5
    weighted = WeightedSum(weights={"factuality": 3})
    torch.testing.assert_close(weighted(REWARDS), torch.tensor([-0.4, 2.0]))


def test_worst_case() -> None:
    torch.testing.assert_close(WorstCase()(REWARDS), torch.tensor([-2.0, 1.0]))
    shifted = WorstCase(margins={"factuality": -4.0, "safety": 2.5})
    torch.testing.assert_close(shifted(REWARDS), torch.tensor([0.5, 0.5]))


def test_chebyshev_by_hand() -> None:
    """-0.5 (log(e^4 + e^2) - log 2) = -0.5 (4.126928 - 0.693147)."""
    score = Chebyshev(reference=2.0, mu=0.5)(rewards_of([[0.0, 1.0]]))
    assert score.item() == pytest.approx(-1.716890, abs=1e-5)


def test_chebyshev_tends_to_the_worst_shortfall() -> None:
    score = Chebyshev(reference=2.0, mu=0.001)(REWARDS)
    torch.testing.assert_close(score, torch.tensor([-4.0 + 0.001 * math.log(3), -1.0 + 0.001 * math.log(2)]))


def test_chebyshev_reaches_a_concave_front_and_a_weighted_sum_does_not() -> None:
    """Points (0, 1), (0.4, 0.4), (1, 0): the middle is optimal for no weights, yet it is Pareto-optimal."""
    points = torch.tensor([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
    for share in (0.01, 0.3, 0.5, 0.7, 0.99):
        linear = WeightedSum(weights={"a": share, "b": 1 - share})
        assert linear(rewards_of(points)).argmax().item() != 1
    assert Chebyshev(reference=1.0, mu=0.05)(rewards_of(points)).argmax().item() == 1


@pytest.mark.parametrize("scalarizer", [WeightedSum(), Chebyshev(), WorstCase()])
def test_nothing_judged_scores_zero(scalarizer: WeightedSum) -> None:
    score = scalarizer(rewards_of(REWARDS.mean_BK, torch.zeros_like(JUDGED), NAMES))
    assert score.tolist() == [0.0, 0.0]


def test_unknown_objective_is_named() -> None:
    for scalarizer in (
        WeightedSum(weights={"beauty": 1}),
        Chebyshev(weights={"beauty": 1}),
        WorstCase(margins={"beauty": 1}),
    ):
        with pytest.raises(
            UserError, match=r"no objective beauty; there are helpfulness, factuality, safety"
        ):
            scalarizer.check(NAMES)


def test_chosen_in_the_config() -> None:
    row = {"name": "x", "scalarizer": {"type": "chebyshev", "mu": 0.1}}
    assert parse_config(row, PpoVariant, "test").scalarizer == Chebyshev(mu=0.1)
    with pytest.raises(UserError, match=r"scalarizer: unknown type 'chebishev'. Did you mean 'chebyshev'"):
        parse_config({"name": "x", "scalarizer": {"type": "chebishev"}}, PpoVariant, "test")
    with pytest.raises(UserError, match=r"scalarizer.nu: unknown key; did you mean 'mu'"):
        parse_config({"name": "x", "scalarizer": {"type": "chebyshev", "nu": 1}}, PpoVariant, "test")


def test_a_users_own_class() -> None:
    row = {"name": "x", "scalarizer": {"type": "mmrlhf.rewards.scalarizers.worst_case:WorstCase"}}
    assert parse_config(row, PpoVariant, "test").scalarizer == WorstCase()
    with pytest.raises(UserError, match="can't import nowhere"):
        parse_config({"name": "x", "scalarizer": {"type": "nowhere:Thing"}}, PpoVariant, "test")


def test_pessimism_takes_off_the_deviation_first() -> None:
    """(1 - 2 * 0.5 + 3 - 2 * 0.25) / 2."""
    rewards = replace(rewards_of([[1.0, 3.0]]), std_BK=torch.tensor([[0.5, 0.25]]))
    assert WeightedSum(pessimism=2.0)(rewards).tolist() == [1.25]
