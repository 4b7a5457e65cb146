"""Advantages against numbers worked out by hand from each algorithm's paper."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmrlhf.rl.algorithms import AlgorithmBase, Grpo, Ppo, ReinforcePp, Rloo, Scored

MASK = torch.tensor([[True, True], [True, False], [True, True], [True, True], [True, False]])
GROUP = torch.tensor([0, 0, 1, 1, 1])


def scored(scores: list[float], penalty: float = 0.0, values: Tensor | None = None) -> Scored:
    """Answers whose first token costs a KL penalty, and whose last one brings the score."""
    scores_B = torch.tensor(scores)
    rewards_BT = torch.zeros(5, 2)
    rewards_BT[:, 0] -= penalty
    last = MASK.sum(1) - 1
    rewards_BT[torch.arange(5), last] += scores_B
    return Scored(rewards_BT.sum(1), rewards_BT.unsqueeze(-1), values, torch.ones(5, 1), MASK, GROUP)


def test_grpo() -> None:
    """Groups 1, 3 (mean 2, deviation sqrt 2) and 0, 0, 6 (mean 2, deviation sqrt 12), each plus 1e-4."""
    advantages, returns = Grpo().advantages(scored([1.0, 3.0, 0.0, 0.0, 6.0]))
    one, two = 1 / (math.sqrt(2) + 1e-4), 2 / (math.sqrt(12) + 1e-4)
    expected = [[-one, -one], [one, 0], [-two, -two], [-two, -two], [2 * two, 0]]
    torch.testing.assert_close(advantages, torch.tensor(expected))
    assert returns is None


@pytest.mark.parametrize(("scale", "divisor"), [("none", 1.0), ("batch", math.sqrt(146 / 4) + 1e-4)])
def test_grpo_scaled_otherwise(scale: str, divisor: float) -> None:
    """Apart from the means of their groups (12 and 2) -1, 1, -2, -2, 4. From the mean of all, 6, they lie 5, 7, -6, -6
    and 0 away: a sum of squares of 146, of five scores."""
    advantages, _ = Grpo(scale=scale).advantages(scored([11.0, 13.0, 0.0, 0.0, 6.0]))
    torch.testing.assert_close(advantages[:, 0], torch.tensor([-1.0, 1.0, -2.0, -2.0, 4.0]) / divisor)


def test_grpo_divides_by_the_batch_where_groups_are_scaled_already() -> None:
    """The scores -1, 1, -2, -2, 4, whose groups have the mean 0: a sum of squares of 26. `scale: group` divides each
    group by its own deviation all the same."""
    given = replace(scored([-1.0, 1.0, -2.0, -2.0, 4.0]), scaled_groups=True)
    expected = torch.tensor([-1.0, 1.0, -2.0, -2.0, 4.0]) / (math.sqrt(26 / 4) + 1e-4)
    torch.testing.assert_close(Grpo().advantages(given)[0][:, 0], expected)
    assert Grpo(scale="group").advantages(given)[0][0, 0].item() == pytest.approx(-1 / (math.sqrt(2) + 1e-4))


@pytest.mark.parametrize(
    "algorithm",
    [Grpo(), Grpo(scale="batch"), Grpo(scale="none"), Rloo(), ReinforcePp(), ReinforcePp(baseline="group")],
    ids=repr,
)
def test_what_differs_by_rounding_only_teaches_nothing(algorithm: AlgorithmBase) -> None:
    """Three rewards of a model for one answer, as read in three batches, and large ones with their own rounding."""
    for scores in ([0.1, 0.1 + 2e-7, 0.3, 0.3 - 1e-7, 0.3], [1000.0, 1000.0 + 1e-4, -40.0, -40.0, -40.0]):
        if isinstance(algorithm, ReinforcePp) and algorithm.baseline == "none":
            scores = [scores[0]] * 4 + [scores[1]]
        advantages, _ = algorithm.advantages(scored(scores))
        assert advantages.abs().max() == 0


def test_an_answer_alone_in_its_batch_teaches_nothing() -> None:
    """The others to its prompt may have been left out."""
    one = Scored(
        torch.tensor([2.0]), torch.tensor([[[2.0]]]), None, torch.ones(1, 1), MASK[:1, :1], torch.tensor([3])
    )
    for algorithm in (Grpo(), Grpo(scale="batch"), Grpo(scale="none"), Rloo(), ReinforcePp(baseline="group")):
        assert algorithm.advantages(one)[0].tolist() == [[0.0]]


def test_a_group_that_scores_alike_teaches_nothing() -> None:
    advantages, _ = Grpo().advantages(scored([5.0, 5.0, 1.0, 1.0, 1.0]))
    assert advantages.abs().max() == 0


def test_rloo() -> None:
    """1 against 3; 0 against the mean of 0 and 6, 6 against 0 and 0. A penalty that all pay changes nothing."""
    for penalty in (0.0, 0.5):
        advantages, _ = Rloo().advantages(scored([1.0, 3.0, 0.0, 0.0, 6.0], penalty))
        torch.testing.assert_close(
            advantages, torch.tensor([[-2.0, -2.0], [2.0, 0.0], [-3.0, -3.0], [-3.0, -3.0], [6.0, 0.0]])
        )


def test_reinforce_pp() -> None:
    """Rewards to go, with a penalty of 1 on each first token: 0, 1 | 2 | -1, 0 | -1, 0 | 5: over the eight tokens a
    mean of 0.75, a mean square of 32 / 8 = 4, a variance of 3.4375."""
    advantages, _ = ReinforcePp().advantages(scored([1.0, 3.0, 0.0, 0.0, 6.0], penalty=1.0))
    plain = torch.tensor([[0.0, 1.0], [2.0, 0.75], [-1.0, 0.0], [-1.0, 0.0], [5.0, 0.75]])
    torch.testing.assert_close(advantages, (plain - 0.75) / math.sqrt(3.4375), rtol=1e-5, atol=1e-5)


def test_reinforce_pp_with_the_groups_mean() -> None:
    """The group's mean, 2 in both, off each score: -1, -1 | 1 | -2, -2 | -2, -2 | 4: mean -5/8, mean square 35/8."""
    advantages, _ = ReinforcePp(baseline="group").advantages(scored([1.0, 3.0, 0.0, 0.0, 6.0]))
    plain = torch.tensor([[-1.0, -1.0], [1.0, -0.625], [-2.0, -2.0], [-2.0, -2.0], [4.0, -0.625]])
    torch.testing.assert_close(
        advantages, (plain + 0.625) / math.sqrt(35 / 8 - 25 / 64), rtol=1e-5, atol=1e-5
    )


def test_reinforce_pp_takes_the_mean_of_whole_rewards_off() -> None:
    """A penalty of 1 on each first token: whole rewards 0, 2 and -1, -1, 5 of mean 1 in both groups. Rewards to go
    0, 1 | 2 | -1, 0 | -1, 0 | 5, less 1: mean -2/8, mean square (1+0+1+4+1+4+1+16)/8 = 3.5."""
    advantages, _ = ReinforcePp(baseline="group").advantages(scored([1.0, 3.0, 0.0, 0.0, 6.0], penalty=1.0))
    plain = torch.tensor([[-1.0, 0.0], [1.0, -0.25], [-2.0, -1.0], [-2.0, -1.0], [4.0, -0.25]])
    torch.testing.assert_close(advantages, (plain + 0.25) / math.sqrt(3.5 - 0.0625), rtol=1e-5, atol=1e-5)


def test_ppo_with_one_critic_is_whitened_gae() -> None:
    """Without values, gamma = lam = 1: each token's advantage is its answer's score."""
    advantages, returns = Ppo(lam=1.0).advantages(
        scored([1.0, 3.0, 0.0, 0.0, 6.0], values=torch.zeros(5, 2, 1))
    )
    assert returns is not None
    assert returns[:, 0, 0].tolist() == [1.0, 3.0, 0.0, 0.0, 6.0]
    # over eight tokens: mean 11/8, mean square 47/8
    plain = torch.tensor([[1.0, 1.0], [3.0, 11 / 8], [0.0, 0.0], [0.0, 0.0], [6.0, 11 / 8]])
    expected = (plain - 11 / 8) / math.sqrt(47 / 8 - 121 / 64)
    torch.testing.assert_close(advantages, expected, rtol=1e-5, atol=1e-5)


def test_critics_an_objective_are_put_together_last() -> None:
    """One answer of one token and one of two; advantages 1 and 2 of two objectives, weighed 1 : 0 and 0 : 1."""
    mask = torch.tensor([[True, False], [True, False]])
    rewards = torch.tensor([[[2.0, 5.0], [0.0, 0.0]], [[9.0, 3.0], [0.0, 0.0]]])
    values = torch.tensor([[[1.0, 0.0], [7.0, 7.0]], [[0.0, 1.0], [7.0, 7.0]]])
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found, returns = Ppo(critics="per_objective").advantages(
        Scored(torch.zeros(2), rewards, values, weights, mask, torch.tensor([0, 1]))
    )
    # 2 - 1 = 1 and 3 - 1 = 2: whitened -1 and 1
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), rtol=1e-5, atol=1e-5)
    assert returns is not None
    assert returns[:, 0].tolist() == [[2.0, 5.0], [9.0, 3.0]]
