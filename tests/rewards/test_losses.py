"""Losses of the reward model by hand, and their gradients by finite differences."""

import math

import pytest
import torch
from torch import Tensor

from mmrlhf.rewards.losses import bradley_terry, centering, plackett_luce, rating_error, yes_or_no

LN2 = 0.6931471805599453


def test_bradley_terry_by_hand() -> None:
    better = torch.tensor([1.0, 0.5, 2.0])
    worse = torch.tensor([0.0, 1.5, -1.0])
    tie = torch.tensor([False, False, True])
    # -log sigma(1), -log sigma(-1), and for the tie half of -log sigma(3) and -log sigma(-3)
    expected = torch.tensor([0.313262, 1.313262, 0.5 * (0.048587 + 3.048587)])
    torch.testing.assert_close(bradley_terry(better, worse, tie), expected)


def test_a_margin_is_what_the_better_one_must_win_by() -> None:
    better, worse = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])
    found = bradley_terry(better, worse, torch.tensor([False, False, True]), torch.tensor([1.0, 2.0, 5.0]))
    # -log sigma(1 - 1), -log sigma(1 - 2); a tie has no margin
    torch.testing.assert_close(found, torch.tensor([LN2, 1.313262, LN2]))


def test_a_tie_is_best_at_no_difference() -> None:
    gap = torch.tensor([0.3], requires_grad=True)
    bradley_terry(gap, torch.zeros(1), torch.tensor([True])).sum().backward()
    assert gap.grad is not None
    assert gap.grad.item() > 0
    equal = bradley_terry(torch.zeros(1), torch.zeros(1), torch.tensor([True]))
    torch.testing.assert_close(equal, torch.tensor([0.693147]))


def test_centering() -> None:
    torch.testing.assert_close(centering(torch.tensor([1.0]), torch.tensor([0.5])), torch.tensor([2.25]))


def test_plackett_luce_by_hand() -> None:
    rewards = torch.tensor([math.log(1.0), math.log(3.0), math.log(4.0)], dtype=torch.float64)
    # 4 of 8, then 3 of 4
    assert plackett_luce(rewards, [[2], [1], [0]]).item() == pytest.approx(-math.log(4 / 8 * 3 / 4))
    # 1 of 8, then 4 of 7
    assert plackett_luce(rewards, [[0], [2], [1]]).item() == pytest.approx(-math.log(1 / 8 * 4 / 7))
    # two ties behind the best: 4 of 8, then either way round, 3 of 4 or 1 of 4
    tied = -math.log(4 / 8) - 0.5 * (math.log(3 / 4) + math.log(1 / 4))
    assert plackett_luce(rewards, [[2], [0, 1]]).item() == pytest.approx(tied)
    # all three tied: the mean of six orders, written out
    orders = [(1, 3, 4), (1, 4, 3), (3, 1, 4), (3, 4, 1), (4, 1, 3), (4, 3, 1)]
    mean = sum(-math.log(a / 8) - math.log(b / (8 - a)) for a, b, _ in orders) / 6
    assert plackett_luce(rewards, [[1, 2, 0]]).item() == pytest.approx(mean)
    # what isn't ranked plays no part
    assert plackett_luce(rewards, [[2], [0]]).item() == pytest.approx(-math.log(4 / 5))


def test_a_ranking_of_two_is_a_comparison() -> None:
    gap = torch.tensor([[0.7, -1.2], [0.1, 0.4]])  # two responses, two members
    for order, tie in (([[0], [1]], False), ([[0, 1]], True)):
        pair = bradley_terry(gap[0], gap[1], torch.tensor(tie))
        torch.testing.assert_close(plackett_luce(gap, order), pair)


def test_rating_error_by_hand() -> None:
    predicted, rating = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.625, 1.0])
    # errors of 0, half a unit and four units: 0.5 x^2 up to a unit, then x - 0.5
    torch.testing.assert_close(rating_error(predicted, rating), torch.tensor([0.0, 0.125, 3.5]))
    torch.testing.assert_close(rating_error(predicted, rating, squared=True), torch.tensor([0.0, 0.125, 8.0]))


def test_yes_or_no_by_hand() -> None:
    reward, yes = torch.tensor([0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 0.0])
    # -log sigma(0), -log sigma(2), -log sigma(-2)
    torch.testing.assert_close(yes_or_no(reward, yes), torch.tensor([LN2, 0.126928, 2.126928]))


def test_the_cost_loss_of_safe_rlhf() -> None:
    """Its own formula, on costs C = -r: -log sigma(C_harmful - C_harmless) and -log sigma(s C) of each, s = 1 for what
    is harmful and -1 for what isn't."""
    harmless, harmful = torch.tensor(0.8), torch.tensor(-0.3)
    ours = (
        bradley_terry(harmless, harmful, torch.tensor(False))
        + yes_or_no(torch.stack([harmless, harmful]), torch.tensor([1.0, 0.0])).sum()
    )

    def logistic(x: float) -> float:
        return math.log(1 + math.exp(-x))

    cost_harmless, cost_harmful = -0.8, 0.3
    theirs = logistic(cost_harmful - cost_harmless) + logistic(cost_harmful) + logistic(-cost_harmless)
    assert ours.item() == pytest.approx(theirs, abs=1e-6)


def draws(*shape: int) -> Tensor:
    made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return made.requires_grad_()


def test_gradients_by_finite_differences() -> None:
    a, b = draws(4, 3), draws(4, 3).detach().flip(0).requires_grad_()
    tie = torch.tensor([False, True, False, True]).unsqueeze(1)
    margin = torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float64).unsqueeze(1)
    yes = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64).unsqueeze(1)
    rating = torch.tensor([0.0, 0.3, 0.9, 1.0], dtype=torch.float64).unsqueeze(1)
    check = torch.autograd.gradcheck
    assert check(lambda x, y: bradley_terry(x, y, tie, margin), (a, b))
    assert check(centering, (a, b))
    assert check(lambda x: yes_or_no(x, yes), (a,))
    for squared in (False, True):
        assert check(lambda x, squared=squared: rating_error(x, rating, squared), (a,))
    for order in ([[2], [0], [3], [1]], [[1, 3], [0, 2]], [[0, 1, 2, 3]], [[3], [1]]):
        assert check(lambda x, order=order: plackett_luce(x, order), (a,))
