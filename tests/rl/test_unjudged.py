"""Answers that no objective judged have no score: which these are, and what is left of a rollout without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from data_tools.schema import Message, Part, PreferenceRecord
from mmrlhf.rewards.scalarizers import (
    Chebyshev,
    Gated,
    Lagrangian,
    Lexicographic,
    Nash,
    PreferenceConditioned,
    SafetyGate,
    ScalarizerBase,
    Standardised,
    Threshold,
    WeightedSum,
    WorstCase,
)
from mmrlhf.rl.rollout import first_alike, without_unjudged
from mmrlhf.types import EncodedPrompt, Rewards, Rollout, Row

NAMES = ("a", "b", "c")
# judged on all, on a alone, on b alone, on c alone, on nothing
JUDGED = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()


@pytest.mark.parametrize(
    ("scalarizer", "counted"),
    [
        (WeightedSum(), [1, 1, 1, 1, 0]),
        (WeightedSum(weights={"b": 0.0}), [1, 1, 0, 1, 0]),
        (Standardised(weights={"b": 0.0}), [1, 1, 0, 1, 0]),
        (Nash(weights={"a": 0.0, "b": 0.0}), [1, 0, 0, 1, 0]),
        (Chebyshev(), [1, 1, 1, 1, 0]),
        (WorstCase(), [1, 1, 1, 1, 0]),
        (Threshold(thresholds={"b": 1.0}, weights={"b": 0.0}), [1, 1, 0, 1, 0]),
        (Threshold(thresholds={"b": 1.0}, weights={"b": 0.0, "a": 0.0}, counts="once_met"), [1, 0, 1, 1, 0]),
        (Lexicographic(order=["a", "c"]), [1, 1, 0, 1, 0]),
        (SafetyGate(safety="a", helpfulness="b"), [1, 1, 1, 0, 0]),
        (Lagrangian(weights={"a": 1.0}, at_least={"b": 0.0}), [1, 1, 1, 0, 0]),
        # a gate that gives c nothing, mixed with equal weights or not
        (Gated(), [1, 1, 1, 0, 0]),
        (Gated(floor=0.1), [1, 1, 1, 1, 0]),
        # a prompt that asks for b alone
        (PreferenceConditioned(), [1, 0, 1, 0, 0]),
    ],
    ids=lambda value: repr(value) if isinstance(value, ScalarizerBase) else None,
)
def test_which_answers_count(scalarizer: ScalarizerBase, counted: list[int]) -> None:
    nothing = torch.zeros(5, 3)
    rewards = Rewards(NAMES, nothing, JUDGED, nothing, gate_BK=torch.tensor([[0.5, 0.5, 0.0]] * 5))
    if isinstance(scalarizer, PreferenceConditioned):
        rewards = replace(rewards, asked_BK=torch.tensor([[0.0, 1.0, 0.0]] * 5))
    assert scalarizer.counted(rewards).int().tolist() == counted


def test_a_floor_is_the_share_of_equal_weights_over_what_applies() -> None:
    """a weighs 0.8 and b 0.2 of what applies; half of it equal: 0.65 and 0.35."""
    rewards = Rewards(
        NAMES,
        torch.tensor([[1.0, 0.0, 0.0]]),
        torch.tensor([[True, True, False]]),
        torch.zeros(1, 3),
        gate_BK=torch.tensor([[0.8, 0.2, 0.0]]),
    )
    assert Gated(floor=0.5)(rewards).item() == pytest.approx(0.65)


def prompt(name: str) -> EncodedPrompt:
    record = PreferenceRecord(id=name, source="s", prompt=(Message("user", (Part(text=name),)),))
    return EncodedPrompt(record, torch.tensor([1]))


def rollout(judged: Any) -> Rollout:
    """Answers of one to four tokens to two prompts, judged on a or not."""
    prompts = [prompt("p"), prompt("q")]
    rows = tuple(Row(prompts[i // 2], torch.arange(i + 1)) for i in range(4))
    judged_BK = torch.tensor(judged).unsqueeze(1)
    values = torch.arange(4.0).unsqueeze(1)
    return Rollout(
        rows=rows,
        texts=("one", "two", "three", "four"),
        ended_B=torch.tensor([True, False, True, False]),
        rewards_BK=values,
        judged_BK=judged_BK,
        std_BK=torch.zeros(4, 1),
        gate_BK=None,
        asked_BK=None,
        group_B=torch.tensor([0, 0, 1, 1]),
        logprobs_BT=values.expand(4, 4),
        values_BTK=None,
    )


def test_what_is_left_of_a_rollout() -> None:
    left, unjudged = without_unjudged(rollout([True, False, True, False]), WeightedSum(), ["a"])
    assert (left.texts, unjudged) == (("one", "three"), 2)
    assert left.group_B.tolist() == [0, 1]
    assert left.rewards_BK.tolist() == [[0.0], [2.0]]
    assert left.ended_B.tolist() == [True, True]
    assert left.logprobs_BT is not None
    assert left.logprobs_BT.tolist() == [[0.0] * 3, [2.0] * 3]  # the longest that is left has three tokens
    # a group without any goes with them, and nothing may be left
    assert without_unjudged(rollout([False, False, True, True]), WeightedSum(), ["a"])[
        0
    ].group_B.tolist() == [
        1,
        1,
    ]
    none, unjudged = without_unjudged(rollout([False] * 4), WeightedSum(), ["a"])
    assert (len(none.rows), unjudged) == (0, 4)
    whole = rollout([True] * 4)
    assert without_unjudged(whole, WeightedSum(), ["a"]) == (whole, 0)


def test_the_same_answer_to_the_same_prompt_is_known() -> None:
    one, other = prompt("p"), prompt("p")
    ids = [torch.tensor(each) for each in ([1, 2], [1, 2], [1], [1, 2])]
    rows = [Row(p, i) for p, i in zip((one, one, one, other), ids, strict=True)]
    assert first_alike(rows).tolist() == [0, 0, 2, 3]
    assert first_alike([]).tolist() == []
