"""Scalarizers against numbers worked out by hand."""

import math

import pytest
import torch

from data_tools.config import parse_config
from data_tools.errors import UserError
from mmrlhf.config import PpoVariant
from mmrlhf.rewards.scalarizers import Chebyshev, WeightedSum, WorstCase

NAMES = ["helpfulness", "factuality", "safety"]
REWARDS = torch.tensor([[1.0, -2.0, 3.0], [1.0, 5.0, 3.0]])
JUDGED = torch.tensor([[True, True, True], [True, False, True]])


def test_weighted_sum() -> None:
    # (1 - 2 + 3) / 3, and without factuality (1 + 3) / 2
    torch.testing.assert_close(WeightedSum()(REWARDS, JUDGED, NAMES), torch.tensor([0.6666667, 2.0]))
    # (1 - 6 + 3) / 5
    weighted = WeightedSum(weights={"factuality": 3})
    torch.testing.assert_close(weighted(REWARDS, JUDGED, NAMES), torch.tensor([-0.4, 2.0]))


def test_worst_case() -> None:
    torch.testing.assert_close(WorstCase()(REWARDS, JUDGED, NAMES), torch.tensor([-2.0, 1.0]))
    shifted = WorstCase(margins={"factuality": -4.0, "safety": 2.5})
    torch.testing.assert_close(shifted(REWARDS, JUDGED, NAMES), torch.tensor([0.5, 0.5]))


def test_chebyshev_by_hand() -> None:
    """-0.5 (log(e^4 + e^2) - log 2) = -0.5 (4.126928 - 0.693147)."""
    score = Chebyshev(reference=2.0, mu=0.5)(torch.tensor([[0.0, 1.0]]), torch.ones(1, 2).bool(), ["a", "b"])
    assert score.item() == pytest.approx(-1.716890, abs=1e-5)


def test_chebyshev_tends_to_the_worst_shortfall() -> None:
    score = Chebyshev(reference=2.0, mu=0.001)(REWARDS, JUDGED, NAMES)
    torch.testing.assert_close(score, torch.tensor([-4.0 + 0.001 * math.log(3), -1.0 + 0.001 * math.log(2)]))


def test_chebyshev_reaches_a_concave_front_and_a_weighted_sum_does_not() -> None:
    """Points (0, 1), (0.4, 0.4), (1, 0): the middle is optimal for no weights, yet it is Pareto-optimal."""
    points = torch.tensor([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
    judged = torch.ones_like(points).bool()
    for share in (0.01, 0.3, 0.5, 0.7, 0.99):
        linear = WeightedSum(weights={"a": share, "b": 1 - share})
        assert linear(points, judged, ["a", "b"]).argmax().item() != 1
    assert Chebyshev(reference=1.0, mu=0.05)(points, judged, ["a", "b"]).argmax().item() == 1


@pytest.mark.parametrize("scalarizer", [WeightedSum(), Chebyshev(), WorstCase()])
def test_nothing_judged_scores_zero(scalarizer: WeightedSum) -> None:
    score = scalarizer(REWARDS, torch.zeros_like(JUDGED), NAMES)
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
