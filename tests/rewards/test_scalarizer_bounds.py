"""What pessimism and the bound do to rewards before they are combined, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from scalarizer_samples import close, rewards_of, scores

from mmrlhf.rewards.scalarizers import (
    Lagrangian,
    PreferenceConditioned,
    Standardised,
    WeightedSum,
)
from mmrlhf.rl.scoring import scalarize


def test_pessimism_takes_off_the_deviation_first() -> None:
    """(1 - 2 * 0.5 + 3 - 2 * 0.25) / 2."""
    rewards = replace(rewards_of([[1.0, 3.0]]), std_BK=torch.tensor([[0.5, 0.25]]))
    assert WeightedSum(pessimism=2.0)(rewards).tolist() == [1.25]


def test_pessimism_holds_for_constraints_and_statistics() -> None:
    """A mean of 1 with a deviation of 0.5 counts as 0, so that the bound of 1 is unmet by 1."""
    unsure = replace(rewards_of([[1.0, 0.0]]), std_BK=torch.tensor([[0.5, 0.0]]))
    assert Lagrangian(at_least={"a": 1.0}, pessimism=2.0).learn(unsure)["violation/a"] == 1.0
    assert Standardised(pessimism=2.0).learn(unsure)["mean/a"] == 0.0


def test_pessimism_takes_an_unsure_cost_for_more_than_it_is() -> None:
    """Harm of 0.5 counts as 0.5 + 2 * 1: (0 - 2.5) / 2, where a sure one gives (0 - 0.5) / 2."""
    bound = Lagrangian(weights={"a": 1.0}, at_most={"b": 0.0}, initial=1.0, pessimism=2.0)
    sure = rewards_of([[0.0, 0.5]])
    unsure = replace(sure, std_BK=torch.tensor([[0.0, 1.0]]))
    assert scores(bound, sure) == [-0.25]
    assert scores(bound, unsure) == [-1.25]
    assert bound.learn(unsure)["violation/b"] == 2.5
    # what is maximised, and what is to be at least its bound, count for less
    more = Lagrangian(weights={"a": 1.0}, at_least={"b": 0.0}, initial=1.0, pessimism=2.0)
    assert scores(more, replace(sure, std_BK=torch.ones(1, 2))) == [-1.75]


def test_pessimism_comes_before_the_bound() -> None:
    """20 - 2 * 3 = 14 is 5 once bounded, and 6 - 2 * 0.9 = 4.2; 0 - 2 * 10 is -5, and a cost of 4 + 2 * 3 is 5."""
    rewards = replace(rewards_of([[20.0], [6.0], [0.0]]), std_BK=torch.tensor([[3.0], [0.9], [10.0]]))
    cautious = WeightedSum(pessimism=2.0)
    assert cautious(rewards, 5.0).tolist() == close(5.0, 4.2, -5.0)
    assert scalarize(cautious, cautious.seen(rewards, 5.0)).tolist() == close(5.0, 4.2, -5.0)
    cost = replace(rewards_of([[0.0, 4.0]]), std_BK=torch.tensor([[0.0, 3.0]]))
    bound = Lagrangian(at_most={"b": 0.0}, pessimism=2.0)
    assert bound.learn(cost, 5.0)["violation/b"] == 5.0  # what it learns from is what it combines
    inner = PreferenceConditioned(pessimism=1.0, inner=WeightedSum(pessimism=1.0))
    assert inner(replace(rewards, asked_BK=torch.ones(3, 1)), 5.0).tolist() == close(5.0, 4.2, -5.0)


def test_pessimism_leaves_what_does_not_apply() -> None:
    judged = torch.tensor([[True, False]])
    unsure = replace(rewards_of([[1.0, 0.0]], judged), std_BK=torch.tensor([[0.5, math.nan]]))
    assert WeightedSum(pessimism=1.0).seen(unsure, 5.0).mean_BK.tolist() == [[0.5, 0.0]]


def test_standardised_rewards_are_bounded_and_not_before() -> None:
    """One 0 after 5,031 times 1 lies 5031 / 5032 from a mean with the deviation 1 / sqrt(5032). Lengths of 100 to 300
    words lie beyond a bound of 5, and tell answers apart all the same: mean 200, deviation 100."""
    running = Standardised()
    running.learn(rewards_of([[1.0]] * 5000), 5.0)
    step = rewards_of([[1.0]] * 31 + [[0.0]])
    assert running(step)[31].item() == pytest.approx(-0.999801 / (0.0140970 + 1e-4), abs=0.01)
    assert running(step, 5.0)[31].item() == -5.0
    lengths = rewards_of([[100.0], [200.0], [300.0]])
    for over in ("batch", "running", "group"):
        grouped = replace(lengths, group_B=torch.zeros(3, dtype=torch.int64))
        assert Standardised(over=over)(grouped, 5.0).tolist() == close(-1.0, 0.0, 1.0)
    assert Standardised().learn(lengths, 5.0) == {"mean/a": 200.0, "std/a": 100.0}
    judged = torch.tensor([[True], [True], [False]])
    seen = Standardised(over="batch").seen(rewards_of([[1.0], [3.0], [0.0]], judged), 5.0)
    assert seen.mean_BK[:, 0].tolist() == pytest.approx([-0.70711, 0.70711, 0.0], abs=1e-4)
