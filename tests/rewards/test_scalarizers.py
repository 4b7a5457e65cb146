"""Scalarizers against numbers worked out by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scalarizer_samples import JUDGED, NAMES, REWARDS, close, rewards_of, scores

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, user
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
from mmrlhf.rl.scoring import slopes

GATE = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])


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


@pytest.mark.parametrize(
    "scalarizer",
    [
        WeightedSum(),
        Chebyshev(),
        Chebyshev(mu=0),
        WorstCase(),
        *(Standardised(over=over) for over in ("running", "group", "batch")),
        *(Threshold(thresholds={"safety": 1.0}, counts=counts) for counts in ("up_to", "once_met")),
        Lexicographic(order=NAMES),
        Nash(),
        Lagrangian(at_least={"safety": 1.0}, initial=1.0),
        Gated(),
        SafetyGate(),
        PreferenceConditioned(),
    ],
    ids=repr,
)
def test_nothing_judged_scores_zero(scalarizer: ScalarizerBase) -> None:
    none = rewards_of(REWARDS.mean_BK, torch.zeros_like(JUDGED), NAMES)
    assert scores(scalarizer, replace(none, gate_BK=GATE, asked_BK=GATE)) == [0.0, 0.0]


def test_hard_chebyshev_with_a_reference_by_objective() -> None:
    """-max(1 (1 - 0), 2 (3 - 1)); an objective that isn't named is held against 2."""
    hard = Chebyshev(mu=0, reference={"a": 1.0, "b": 3.0}, weights={"b": 2.0})
    assert scores(hard, rewards_of([[0.0, 1.0]])) == [-4.0]
    assert scores(Chebyshev(mu=0, reference={"a": 1.0}), rewards_of([[0.0, 1.5]])) == [-1.0]


def test_standardised_over_the_batch_and_over_groups() -> None:
    """a: mean 3, deviation 2; b: mean 1, deviation sqrt(3). In the group (1, 0), (3, 4): 2 and sqrt(2), 2 and
    sqrt(8)."""
    rewards = rewards_of([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0]])
    found = scores(Standardised(over="batch"), rewards)
    assert found == pytest.approx([(-1 - 0.57735) / 2, -0.57735 / 2, (1 + 1.1547) / 2], abs=2e-4)
    grouped = rewards_of([[1.0, 0.0], [3.0, 4.0], [10.0, 5.0], [20.0, 5.0]])
    grouped = replace(grouped, group_B=torch.tensor([0, 0, 1, 1]))
    # b is the same for both answers of the second group, so only a tells them apart there
    assert scores(Standardised(over="group"), grouped) == pytest.approx(
        [-0.70711, 0.70711, -0.35355, 0.35355], abs=2e-4
    )
    heavy = scores(Standardised(over="group", weights={"a": 3.0}), grouped)
    assert heavy == pytest.approx([-0.70711, 0.70711, -0.53033, 0.53033], abs=2e-4)


def test_standardised_counts_only_what_is_judged() -> None:
    judged = torch.tensor([[True, True], [True, False], [True, True]])
    rewards = rewards_of([[1.0, 0.0], [3.0, 99.0], [5.0, 2.0]], judged)
    # b: 0 and 2, so mean 1 and deviation sqrt(2)
    expected = pytest.approx([(-1 - 0.70711) / 2, 0.0, (1 + 0.70711) / 2], abs=2e-4)
    assert scores(Standardised(over="batch"), rewards) == expected
    one_group = replace(rewards, group_B=torch.zeros(3, dtype=torch.int64))
    assert scores(Standardised(over="group"), one_group) == expected


def test_running_statistics_are_those_of_all_answers_so_far() -> None:
    """1, 3, and this step's 5: mean 3, deviation 2."""
    running = Standardised()
    assert running.learn(rewards_of([[1.0], [3.0]])) == {"mean/a": 2.0, "std/a": pytest.approx(math.sqrt(2))}
    assert scores(running, rewards_of([[5.0]])) == pytest.approx([1.0], abs=1e-4)
    assert scores(running, rewards_of([[5.0]])) == pytest.approx(
        [1.0], abs=1e-4
    )  # scoring alone learns nothing
    again = Standardised()
    again.load_state_dict(running.state_dict())
    for part in (running, again):
        assert part.learn(rewards_of([[5.0]])) == {"mean/a": 3.0, "std/a": pytest.approx(2.0)}
    assert running.state_dict() == again.state_dict() == {"moments": {"a": [3.0, 3.0, 8.0]}}


def test_threshold() -> None:
    up_to = Threshold(thresholds={"safety": 2.0})
    assert scores(up_to) == close((1 - 2 + 2) / 3, (1 + 2) / 2)

    def once(**thresholds: float) -> list[float]:
        return scores(Threshold(thresholds=thresholds, counts="once_met"))

    assert once(safety=2.0, helpfulness=1.5) == close(-0.25, -0.25)  # short of one by 0.5, of the other by 0
    assert once(safety=2.0) == close(1 + 2 / 3, 1 + 2)
    assert once(factuality=-1.0) == close(-1.0, 1 + 2)  # not judged for the second, so not in its way
    low = Threshold(thresholds={"a": -2.0}, counts="once_met")
    assert scores(low, rewards_of([[-1.0, -1.0]])) == close(0.5)  # below the mean, yet better than unmet


def test_lexicographic() -> None:
    order = ["safety", "factuality", "helpfulness"]
    # safety 2 above its level: 1; factuality 2 below: 1 / 3, and helpfulness counts for nothing
    # the second: factuality doesn't apply, so helpfulness, 1 above its level, is next and last
    hard = Lexicographic(order=order, levels={"safety": 1.0}, slack=0)
    assert scores(hard) == close((1 + 1 / 3) / 3, 1 + 1)
    # factuality 0.25 below its level, in the middle of the slack: 1 / 1.25, and half of helpfulness
    within = Lexicographic(order=order, levels={"safety": 1.0, "factuality": -1.75})
    assert scores(within) == close((1 + 0.8 + 0.5) / 3 + 0.5 * 1, 1 + 1)


def test_lexicographic_scores_are_alike_however_many_objectives_apply() -> None:
    """All 1 above their levels, all at them, and the first far below."""
    judged = torch.tensor([[True, True, True], [True, False, True], [False, False, True]])
    ordered = Lexicographic(order=["a", "b", "c"])
    for value, expected in ((1.0, 2.0), (0.0, 1.0)):
        assert scores(ordered, rewards_of(torch.full((3, 3), value), judged)) == close(*[expected] * 3)
    low = scores(ordered, rewards_of(torch.full((3, 3), -4.0), judged))
    assert low == close(0.2 / 3, 0.2 / 2, 0.2)


def test_lexicographic_prefers_as_the_order_says() -> None:
    """Each of these beats the next, however much the later objectives give."""
    rows = [[0.0, 0.1], [3.0, 0.0], [0.0, -0.1], [9.0, -5.0], [-0.1, 9.0], [-3.0, 9.0]]
    found = scores(Lexicographic(order=["a", "b"], slack=0), rewards_of(rows))
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 6


def test_nash() -> None:
    """Gains of 2 and 3 over -2: (log 2 + log 3) / 2; at -2 the tangent at 0.1 gives log 0.1 - 1, and at -2.1 one
    less."""
    assert scores(Nash(), rewards_of([[0.0, 1.0]])) == close(0.895880)
    assert scores(Nash(weights={"a": 3.0}), rewards_of([[0.0, 1.0]])) == close(0.794513)
    assert scores(Nash(), rewards_of([[-2.0], [-2.1], [-1.9]])) == pytest.approx(
        [-3.302585, -4.302585, -2.302585], abs=1e-4
    )
    assert scores(Nash(disagreement={"a": 1.0}), rewards_of([[2.0, 3.0]])) == close(0.5 * 1.609438)


def test_lagrangian_by_hand() -> None:
    bound = Lagrangian(at_least={"safety": 1.0}, initial=2.0)
    # (1 - 2) / 2 + 2 (3 - 1), and without factuality 1 + 2 (3 - 1), both over 1 + 2
    assert scores(bound) == close(3.5 / 3, 5 / 3)
    assert scores(bound.model_copy(update={"normalise": False})) == close(3.5, 5.0)
    # a cost: (1 + 3) / 2 + (-1 - -2); where the cost isn't judged, nothing is bound
    cost = Lagrangian(at_most={"factuality": -1.0}, initial=1.0)
    assert scores(cost) == close(1.5, 2.0)
    both = Lagrangian(weights={"helpfulness": 1.0}, at_least={"safety": 1.0, "factuality": 0.0}, initial=1.0)
    assert scores(both) == close((1 + 2 - 2) / 3, (1 + 2) / 2)


def test_multipliers_move_as_a_pid_controller() -> None:
    """Violations 1, 2, -4: the integral is 0.1, 0.3, 0; the smoothed violation 1, 1.5, -1.25, its rise 0, 0.5, 0."""
    made = Lagrangian(at_least={"a": 1.0}, kp=0.5, ki=0.1, kd=1.0, smoothing=0.5)
    found = [made.update(rewards_of([[value - 1.0, 9.0], [value + 1.0, 9.0]])) for value in (0.0, -1.0, 5.0)]
    assert [row["violation/a"] for row in found] == [1.0, 2.0, -4.0]
    assert [row["multiplier/a"] for row in found] == close(0.6, 1.55, 0.0)
    unjudged = rewards_of([[0.0, 1.0]], torch.tensor([[False, True]]))
    assert made.update(unjudged) == {"multiplier/a": 0.0}  # a step that says nothing of it


def test_multipliers_go_on_exactly() -> None:
    def made() -> Lagrangian:
        return Lagrangian(at_least={"a": 1.0}, at_most={"b": 0.0}, kd=0.3, initial=0.5)

    steps = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0)).unbind(0)
    whole, first, again = made(), made(), made()
    for step in steps:
        whole.update(rewards_of(step))
    for step in steps[:4]:
        first.update(rewards_of(step))
    again.load_state_dict(first.state_dict())
    for step in steps[4:]:
        logged = again.update(rewards_of(step))
    assert again.state_dict() == whole.state_dict()
    assert set(logged) == {"multiplier/a", "violation/a", "multiplier/b", "violation/b"}
    assert scores(again, rewards_of(steps[0])) == scores(whole, rewards_of(steps[0]))


def test_gated() -> None:
    gated = replace(REWARDS, gate_BK=GATE)
    assert scores(Gated(), gated) == close(0.2 - 0.6 + 1.5, (0.2 + 1.5) / 0.7)
    assert scores(Gated(floor=1.0), gated) == close(2 / 3, 2.0)
    # a floor is shared by the objectives that apply: of two with weights 0.2 and 0.8, a floor of 0.8 makes
    # 0.2 * 0.2 + 0.8 / 2 = 0.44 and 0.56, so 0.44 * 1 + 0.56 * 3
    partly = replace(REWARDS, gate_BK=torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.0, 0.8]]))
    assert scores(Gated(floor=0.8), partly)[1] == pytest.approx(2.12)
    with pytest.raises(UserError, match=r"the reward model has no gate .* reward\.gate"):
        Gated()(REWARDS)


def test_safety_gate() -> None:
    names = ["helpfulness", "safety"]
    gate = SafetyGate(threshold=-1.0)
    rewards = rewards_of([[1.0, 3.0], [1.0, -2.0], [1.0, -1.0]], names=names)
    assert scores(gate, rewards) == [1.0, -2.0, 1.0]
    flagged = replace(rewards, asked_BK=torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]]))
    assert scores(gate, flagged) == [3.0, -2.0, -1.0]
    judged = torch.tensor([[True, False], [False, True], [True, False]])
    assert scores(gate, rewards_of([[1.0, -9.0], [7.0, 0.5], [2.0, 0.0]], judged, names)) == [1.0, 0.5, 2.0]


def test_safety_gate_reads_flags_of_records() -> None:
    def weights(**more: Any) -> list[float]:
        record = PreferenceRecord(id="r", source="s", prompt=(user("How?"),), **more)
        asked = SafetyGate().ask(record, NAMES, 0)
        assert asked is not None
        assert asked[0] is record  # nothing is told to the policy
        return asked[1]

    assert weights(reference={"refuse": True}) == weights(provenance={"refuse": True}) == [0.0, 0.0, 1.0]
    assert weights() == weights(reference={"refuse": False}) == [0.0, 0.0, 0.0]


def test_preference_conditioned() -> None:
    asked = replace(REWARDS, asked_BK=torch.tensor([[0.7, 0.0, 0.3], [0.0, 0.5, 0.5]]))
    assert scores(PreferenceConditioned(), asked) == close(0.7 + 0.9, 3.0)
    weighted = PreferenceConditioned(inner=WeightedSum(weights={"safety": 2.0}))
    assert scores(weighted, asked) == close((0.7 + 1.8) / 1.3, 3.0)
    # factuality, 4 short of 2, isn't asked for
    hard = PreferenceConditioned(inner=Chebyshev(mu=0))
    assert scores(hard, asked) == close(-0.7, 0.5)
    with pytest.raises(UserError, match="without the weights"):
        PreferenceConditioned()(REWARDS)


@pytest.mark.parametrize(
    "scalarizer",
    [
        WeightedSum(weights={"a": 2.0}),
        Chebyshev(weights={"a": 2.0}),
        Chebyshev(mu=0, weights={"a": 2.0}),
        WorstCase(margins={"a": 0.3}),
        *(Threshold(thresholds={"a": 0.3, "b": -0.5}, counts=counts) for counts in ("up_to", "once_met")),
        *(Lexicographic(order=["b", "c", "a"], slack=slack) for slack in (0.0, 0.5, 3.0)),
        Nash(weights={"a": 2.0}, floor=1.0),
        Lagrangian(weights={"a": 1.0}, at_least={"b": 0.1}, at_most={"c": 0.2}, initial=0.7),
        Gated(floor=0.1),
        SafetyGate(safety="b", helpfulness="c", threshold=0.1),
        PreferenceConditioned(inner=Nash()),
    ],
    ids=repr,
)
def test_gradients_by_finite_differences(scalarizer: ScalarizerBase) -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    shares = torch.rand(40, 3, generator=generator, dtype=torch.float64).softmax(-1)
    judged = torch.rand(40, 3, generator=generator) > 0.2
    rewards = replace(rewards_of(values, judged), gate_BK=shares, asked_BK=shares)
    if isinstance(scalarizer, SafetyGate):
        rewards = replace(rewards, asked_BK=None)
    ours = slopes(scalarizer, scalarizer.seen(rewards, 5.0))
    step, found = 1e-6, torch.zeros_like(values)
    for k in range(3):
        apart = torch.zeros_like(values)
        apart[:, k] = step
        up, down = (scalarizer(replace(rewards, mean_BK=values + sign * apart)) for sign in (1, -1))
        found[:, k] = (up - down) / (2 * step)
    torch.testing.assert_close(ours, found, rtol=1e-5, atol=1e-6)
    assert ours.abs().sum() > 1


def test_the_gradient_by_standardised_rewards_is_their_weight() -> None:
    """Three quarters of it a's; what is derived by is already divided by the deviation, as critics learn it."""
    rewards = rewards_of([[1.0, 0.0], [3.0, 0.0], [5.0, 3.0]])
    for over in ("batch", "running", "group"):
        grouped = replace(rewards, group_B=torch.zeros(3, dtype=torch.int64))
        scalarizer = Standardised(over=over, weights={"a": 3.0})
        weights_BK = slopes(scalarizer, scalarizer.seen(grouped, 9.0))
        torch.testing.assert_close(weights_BK, torch.tensor([0.75, 0.25]).expand(3, 2))
