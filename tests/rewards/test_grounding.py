"""The terms of grounding by hand: -log sigma(1) = 0.313262, -log sigma(-1) = 1.313262; gradients against finite
differences."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data_tools.schema import Comparison, PreferenceRecord, Ranking, Response, user
from mmrlhf.rewards.grounding import (
    CrossPair,
    cross_pairs,
    length_correlation,
    length_penalty,
    length_sums,
    prefer_picture,
    shortcut_weights,
    winners,
)


def half(letter: str, better: int, answers: tuple[str, ...] = ("a", "b"), **more: object) -> PreferenceRecord:
    return PreferenceRecord(
        id=letter,
        source="flips",
        prompt=(user("What is it?"),),
        responses=tuple(Response(text) for text in answers),
        comparisons=(Comparison("truth", better=better, worse=1 - better, **more),),  # type: ignore[arg-type]
    )


def differences(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient by central differences."""
    steps = torch.eye(len(at), dtype=at.dtype) * 1e-6
    return torch.stack([(function(at + step) - function(at - step)) / 2e-6 for step in steps])


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def test_each_answer_is_better_under_its_own_picture() -> None:
    assert cross_pairs([half("A", 0), half("B", 1)]) == [
        CrossPair("truth", (0, 0), (1, 0)),
        CrossPair("truth", (1, 1), (0, 1)),
    ]


def test_answers_are_known_by_their_text() -> None:
    # in B the answers stand the other way round: "b", the better one there, is number 0
    turned = half("B", 0, answers=("b", "a"))
    assert cross_pairs([half("A", 0), turned]) == [
        CrossPair("truth", (0, 0), (1, 1)),
        CrossPair("truth", (1, 0), (0, 1)),
    ]


def test_only_a_preference_that_turns_round_gives_pairs() -> None:
    a, b = half("A", 0), half("B", 1)
    other = dataclasses.replace(b, comparisons=(Comparison("help", better=1, worse=0),))
    for unit in (
        [a],
        [a, half("B", 0)],
        [a, other],
        [a, half("B", 1, tie=True)],
        [half("A", 0, tie=True), b],
    ):
        assert cross_pairs(unit) == []


def test_winners_beat_another_and_lose_to_none() -> None:
    record = dataclasses.replace(
        half("A", 0, answers=("a", "b", "c", "d", "e")),
        comparisons=(
            Comparison("truth", better=0, worse=1),
            Comparison("truth", better=3, worse=4, tie=True),
        ),
        rankings=(Ranking("truth", order=((2,), (0,))), Ranking("help", order=((1, 4), (0,)))),
    )
    assert winners(record, "truth") == [2]
    assert winners(record, "help") == [1, 4]
    assert winners(record, "safety") == []


def test_prefer_picture() -> None:
    right, other = torch.tensor([2.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 1.0])
    torch.testing.assert_close(prefer_picture(right, other), torch.tensor([0.313262, 1.313262, 0.693147]))
    at = torch.tensor([0.3, -1.2], dtype=torch.float64)
    for function in (lambda x: prefer_picture(x, at.flip(0)).sum(), lambda x: prefer_picture(at, x).sum()):
        torch.testing.assert_close(gradient(function, at), differences(function, at), atol=1e-8, rtol=1e-6)


def test_a_pair_that_the_text_gives_away_weighs_little() -> None:
    """0.1 / 0.5, 0.4 / 0.8 and 0.9 / 1.2."""
    blind, seeing = torch.tensor([0.1, 0.4, 0.9]), torch.tensor([0.4, 0.4, 0.3])
    torch.testing.assert_close(
        shortcut_weights(blind, seeing), torch.tensor([0.2, 0.5, 0.75]), atol=1e-5, rtol=0
    )


def test_weights_carry_no_gradient_and_are_always_finite() -> None:
    blind = torch.tensor([0.0, 200.0, 0.0], requires_grad=True)
    seeing = torch.tensor([0.0, 0.0, 200.0], requires_grad=True)
    weights = shortcut_weights(blind, seeing)
    assert not weights.requires_grad
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0, 0.0]), atol=1e-5, rtol=0)


GAPS, LENGTHS = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [3.0, 0.0]]), torch.tensor([2.0, 1.0, 4.0])


def test_how_gaps_go_with_lengths() -> None:
    """sum(g l) = 1*2 - 2*1 + 3*4 = 12, sum(g^2) = 14, sum(l^2) = 21: 12 / sqrt(14.03 * 21) = 0.699106; the second
    member's gaps are 0."""
    sums = length_sums(GAPS, LENGTHS)
    assert sums.tolist() == [[12.0, 14.0, 21.0, 3.0], [0.0, 0.0, 21.0, 3.0]]
    assert length_correlation(sums).tolist() == pytest.approx([0.699106, 0.0], abs=1e-6)
    # a pair written the other way round says the same
    turned = torch.tensor([1.0, -1.0, 1.0])
    assert length_sums(GAPS * turned.unsqueeze(1), LENGTHS * turned).tolist() == sums.tolist()


def test_length_penalty() -> None:
    """2 * 12 * 3 / (14.03 * 21) = 0.244374 for a unit of gap times length: for pairs of 2 * 3, of -1 * 1, and of
    answers that are as long as each other."""
    gap, length = torch.tensor([[2.0, 2.0], [-1.0, 5.0], [7.0, 7.0]]), torch.tensor([3.0, 1.0, 0.0])
    found = length_penalty(gap, length, length_sums(GAPS, LENGTHS))
    expected = torch.tensor([[1.466246, 0.0], [-0.244374, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_no_gap_is_penalised_where_nothing_is_known_or_lengths_say_nothing() -> None:
    gap, length = torch.tensor([[3.0]]), torch.tensor([2.0])
    for sums in (
        torch.zeros(1, 4, dtype=torch.float64),  # before the first update
        length_sums(torch.tensor([[1.0], [2.0]]), torch.zeros(2)),
        length_sums(torch.tensor([[1.0], [-1.0]]), torch.tensor([1.0, 1.0])),
        length_sums(torch.zeros(2, 1), torch.tensor([1.0, 2.0])),
    ):
        leaf = gap.clone().requires_grad_()
        penalty = length_penalty(leaf, length, sums)
        penalty.sum().backward()
        assert (penalty.item(), leaf.grad) == (0.0, torch.zeros(1, 1))


def test_the_slope_of_the_length_penalty() -> None:
    """That of c^2 by finite differences, with the deviations held still: for N pairs it is 1 / N of the penalty's."""
    gap = torch.tensor([0.5, -0.2, 1.5, 0.01], dtype=torch.float64)
    length = torch.tensor([3.0, -1.0, 5.0, 2.0], dtype=torch.float64)
    sums = length_sums(gap.unsqueeze(1), length)
    scale = ((gap**2).sum() + 0.04) * (length**2).sum()
    along = differences(lambda gaps: (gaps * length).sum() ** 2 / scale, gap)
    found = gradient(lambda gaps: length_penalty(gaps.unsqueeze(1), length, sums).sum(), gap)
    torch.testing.assert_close(found / 4, along, atol=1e-8, rtol=1e-5)
