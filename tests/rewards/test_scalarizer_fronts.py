"""What each scalarization reaches on a convex and on a concave front, against what theory says.

A front is sampled densely; its points are known by t in [0, 1], from the best b to the best a:

    convex (bulging outwards):  a = sin(pi t / 2), b = cos(pi t / 2), a quarter of a circle
    concave (dented inwards):   a = t^2,           b = (1 - t)^2

Where t is expected, it is worked out from the conditions of optimality, not by the scalarizer.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scalarizer_samples import rewards_of

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
from mmrlhf.types import Rewards

T = torch.linspace(0, 1, 2001, dtype=torch.float64)
SHARES = [i / 40 for i in range(1, 40)]
Make = Callable[[float], ScalarizerBase]


def points(front: str, t: torch.Tensor) -> torch.Tensor:
    """(a, b) at each t."""
    angle = math.pi / 2 * t
    pair = (angle.sin(), angle.cos()) if front == "convex" else (t**2, (1 - t) ** 2)
    return torch.stack(pair, -1)


def on(front: str) -> Rewards:
    rewards = rewards_of(points(front, T))
    return replace(rewards, group_B=torch.zeros(len(T), dtype=torch.int64))


def best(scalarizer: ScalarizerBase, front: str, rewards: Rewards | None = None) -> float:
    """The t of the answer that scores most."""
    return float(T[scalarizer(rewards or on(front)).argmax()])


def near(t: float) -> object:
    return pytest.approx(t, abs=2e-3)


def shares(share: float) -> dict[str, float]:
    return {"a": share, "b": 1 - share}


def widest_gap(found: list[float]) -> float:
    """The widest stretch of the front, its ends included, on which nothing is reached."""
    ordered = sorted([0.0, *found, 1.0])
    return max(b - a for a, b in itertools.pairwise(ordered))


def linear_on_convex(share: float) -> float:
    """w cos x = (1 - w) sin x."""
    return math.atan2(share, 1 - share) * 2 / math.pi


LINEAR: list[Make] = [
    lambda share: WeightedSum(weights=shares(share)),
    # both objectives spread alike over either front, so that standardising them changes nothing
    lambda share: Standardised(weights=shares(share), over="batch"),
    lambda share: Standardised(weights=shares(share), over="group"),
    lambda share: Standardised(weights=shares(share)),
]


@pytest.mark.parametrize("make", LINEAR, ids=["weighted_sum", "batch", "group", "running"])
def test_weighted_sums_reach_a_convex_front_and_only_the_ends_of_a_concave_one(make: Make) -> None:
    found = [best(make(share), "convex") for share in SHARES]
    assert found == [near(linear_on_convex(share)) for share in SHARES]
    assert widest_gap(found) < 0.05
    ends = [best(make(share), "concave") for share in SHARES]
    assert set(ends) == {0.0, 1.0}
    assert ends == sorted(ends)


def test_hard_chebyshev_reaches_all_of_both() -> None:
    """Where w (1 - a) = (1 - w) (1 - b): on the concave front (1 - 2w) t^2 - 2 (1 - w) t + w = 0."""

    def concave(share: float) -> float:
        if share == 0.5:
            return 0.5
        p, q = 1 - 2 * share, -2 * (1 - share)
        return (-q - math.sqrt(q * q - 4 * p * share)) / (2 * p)

    def make(share: float) -> Chebyshev:
        return Chebyshev(weights=shares(share), reference=1.0, mu=0)

    assert [best(make(share), "concave") for share in SHARES] == [near(concave(share)) for share in SHARES]
    assert concave(0.25) == pytest.approx((6 - math.sqrt(28)) / 4)
    fine = [i / 1000 for i in range(1, 1000)]
    for front in ("convex", "concave"):
        assert widest_gap([best(make(share), front) for share in fine]) < 0.05
        assert best(make(0.5), front) == near(0.5)


def test_smooth_chebyshev_does_while_mu_is_small() -> None:
    def make(share: float, mu: float) -> Chebyshev:
        return Chebyshev(weights=shares(share), reference=1.0, mu=mu)

    fine = [i / 200 for i in range(1, 200)]
    for front in ("convex", "concave"):
        assert widest_gap([best(make(share, 0.01), front) for share in fine]) < 0.1
    # it becomes the weighted sum as mu grows
    assert {best(make(share, 10.0), "concave") for share in SHARES} == {0.0, 1.0}


def test_worst_case_reaches_the_balanced_point_and_margins_move_it() -> None:
    """sin x - 0.4 = cos x: x - 45 degrees = asin(0.4 / sqrt 2); t^2 - 0.4 = (1 - t)^2: t = 0.7."""
    assert best(WorstCase(), "convex") == best(WorstCase(), "concave") == 0.5
    assert best(WorstCase(margins={"a": 0.4}), "convex") == near(
        0.5 + math.asin(0.4 / math.sqrt(2)) / math.pi * 2
    )
    assert best(WorstCase(margins={"a": 0.4}), "concave") == near(0.7)


AT_A_LEVEL: dict[str, Make] = {
    "threshold-up-to": lambda level: Threshold(thresholds={"a": level}, weights={"a": 100.0}),
    "threshold-once-met": lambda level: Threshold(
        thresholds={"a": level}, weights={"a": 0.0}, counts="once_met"
    ),
    "lexicographic": lambda level: Lexicographic(order=["a", "b"], levels={"a": level}, slack=0),
    "safety-gate": lambda level: SafetyGate(safety="a", helpfulness="b", threshold=level),
}


@pytest.mark.parametrize("make", AT_A_LEVEL.values(), ids=AT_A_LEVEL.keys())
def test_levels_reach_every_point_of_both_fronts(make: Make) -> None:
    """The best b of those with a >= level is at a = level. Safety's gate asks besides that b >= level there: up to
    t = 0.5."""
    furthest = 0.5 if isinstance(make(0.0), SafetyGate) else 0.975
    aims = [t for t in SHARES if t < furthest]
    assert [best(make(math.sin(math.pi / 2 * t)), "convex") for t in aims] == [near(t) for t in aims]
    assert [best(make(t**2), "concave") for t in aims] == [near(t) for t in aims]


def test_slack_gives_a_little_of_the_level_for_the_next_objective() -> None:
    for front, level in (("convex", 0.6), ("concave", 0.36)):
        hard, soft = (
            best(Lexicographic(order=["a", "b"], levels={"a": level}, slack=slack), front)
            for slack in (0.0, 0.1)
        )
        assert points(front, torch.tensor(hard))[0] == pytest.approx(level, abs=2e-3)
        assert level - 0.1 <= points(front, torch.tensor(soft))[0] <= level + 2e-3


def test_nash_reaches_a_balanced_point_and_by_its_weights_more() -> None:
    """w / tan x = (1 - w) tan x on the convex front; 2 w / t = 2 (1 - w) / (1 - t) on the concave one, so t = w."""

    def make(share: float, disagreement: float = 0.0) -> Nash:
        return Nash(weights=shares(share), disagreement=dict.fromkeys("ab", disagreement), floor=1e-6)

    convex = [math.atan(math.sqrt(share / (1 - share))) * 2 / math.pi for share in SHARES]
    assert [best(make(share), "convex") for share in SHARES] == [near(t) for t in convex]
    assert convex[9] == pytest.approx(1 / 3)  # a quarter of the weight: tan x = 1 / sqrt 3
    assert [best(make(share), "concave") for share in SHARES] == [near(share) for share in SHARES]
    # from far away the curves of equal product are nearly straight, and the front is bent more than they
    assert {best(make(share, -2.0), "concave") for share in SHARES} == {0.0, 1.0}


def test_gates_and_asked_weights_reach_what_is_behind_them() -> None:
    """The weights stand with the answer: those of one prompt here."""

    def found(scalarizer: ScalarizerBase, front: str, share: float) -> float:
        weights_BK = torch.tensor([[share, 1 - share]], dtype=torch.float64).expand(len(T), 2)
        return best(scalarizer, front, replace(on(front), gate_BK=weights_BK, asked_BK=weights_BK))

    for scalarizer in (Gated(), PreferenceConditioned()):
        convex = [found(scalarizer, "convex", share) for share in SHARES]
        assert convex == [near(linear_on_convex(share)) for share in SHARES]
        assert {found(scalarizer, "concave", share) for share in SHARES} == {0.0, 1.0}
    chebyshev = PreferenceConditioned(inner=Chebyshev(mu=0, reference=1.0))
    assert found(chebyshev, "concave", 0.5) == 0.5
    assert found(chebyshev, "concave", 0.25) == near((6 - math.sqrt(28)) / 4)


def play(front: str, steps: int = 600) -> tuple[Lagrangian, list[torch.Tensor]]:
    """A policy that gives the best answer at each step's multiplier, under E[a] >= 0.6: what it gave."""
    made, rewards, given = Lagrangian(weights={"b": 1.0}, at_least={"a": 0.6}, kp=0.2, ki=0.05), on(front), []
    for _ in range(steps):
        answer = rewards.select(made(rewards).argmax().unsqueeze(0))
        given.append(answer.mean_BK[0])
        made.update(answer)
    return made, given


def test_lagrangian_settles_at_its_bound_on_a_convex_front() -> None:
    """a = 0.6, b = 0.8, where the slope of the front, and so the multiplier, is 3 / 4."""
    made, given = play("convex")
    for answer in given[-50:]:
        assert answer.tolist() == [pytest.approx(0.6, abs=3e-3), pytest.approx(0.8, abs=3e-3)]
    assert made.state_dict()["multipliers"]["a"] == pytest.approx(0.75, abs=0.01)


def test_lagrangian_swings_between_the_ends_of_a_concave_front_and_meets_its_bound_on_average() -> None:
    """Mixed answers lie on the chord a + b = 1: b = 0.4, more than the front's own 0.05 at a = 0.6. The multiplier
    stays around 1, the slope of the chord."""
    made, given = play("concave")
    late = torch.stack(given[-400:])
    assert {tuple(answer) for answer in late.tolist()} == {(0.0, 1.0), (1.0, 0.0)}
    assert late.mean(0).tolist() == [pytest.approx(0.6, abs=0.02), pytest.approx(0.4, abs=0.02)]
    assert made.state_dict()["integrals"]["a"] == pytest.approx(1.0, abs=0.2)


def climb(
    scalarizer: ScalarizerBase, front: str, starts: list[float], steps: int = 300, rate: float = 0.02
) -> list[float]:
    """Gradient ascent on t, from several starts at once, by the derivatives that `slopes` gives; where it ends."""
    t = torch.tensor(starts, dtype=torch.float64)
    for _ in range(steps):
        moving = t.clone().requires_grad_(True)
        pairs = points(front, moving)
        rewards = rewards_of(pairs.detach())
        weights_BK = slopes(scalarizer, scalarizer.seen(rewards, 5.0))
        (uphill,) = torch.autograd.grad((weights_BK * pairs).sum(), moving)
        t = (t + rate * uphill).clamp(0, 1)
        scalarizer.update(rewards)
    return t.tolist()


def test_gradients_lead_to_the_points_that_are_best() -> None:
    assert climb(WeightedSum(weights=shares(0.75)), "convex", [0.1]) == [near(linear_on_convex(0.75))]
    # on the concave front whatever end is on its side of the hill: the slope changes its sign at t = 0.5
    assert climb(WeightedSum(), "concave", [0.45, 0.55]) == [0.0, 1.0]
    half = pytest.approx(0.5, abs=0.01)
    for front in ("convex", "concave"):
        assert climb(Chebyshev(reference=1.0, mu=0.05), front, [0.1, 0.9]) == [half, half]
        nash = Nash(disagreement=dict.fromkeys("ab", 0.0), floor=0.01)
        assert climb(nash, front, [0.1, 0.9]) == [half, half]
        ordered = Lexicographic(order=["a", "b"], levels={"a": 0.5}, slack=0.2)
        for t in climb(ordered, front, [0.3, 0.9], steps=1000, rate=0.004):
            # a step from below the level may lead a little over it
            assert 0.3 <= points(front, torch.tensor(t))[0] <= 0.56


def test_multipliers_and_policy_climb_together() -> None:
    """Both move a little at a time, the policy by its gradient: the bound is met all the same."""
    made = Lagrangian(weights={"b": 1.0}, at_least={"a": 0.6}, kp=0.5, ki=0.06)
    (t,) = climb(made, "convex", [0.1], steps=1000, rate=0.03)
    assert points("convex", torch.tensor(t))[0] == pytest.approx(0.6, abs=5e-3)
