"""What algorithms are given, against numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from outcome_samples import outcomes_of
from torch import Tensor

from data_tools.errors import RunError
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.scalarizers import Lagrangian, ScalarizerBase, Standardised, WeightedSum
from mmrlhf.rl.algorithms import AlgorithmBase, Scored
from mmrlhf.rl.scoring import compute_advantages, learning_critics, scalarize, score_tokens
from mmrlhf.types import Outcomes, Rewards


def token_rewards(
    scalarizer: ScalarizerBase, rewards: list[list[float]], stds: list[list[float]], critics: str
) -> tuple[list[Any], list[Any]]:
    """Each answer's reward for each critic, of answers of one token, and the critics' weights."""
    outcomes = outcomes_of(rewards, stds=stds)
    config = PpoConfig.model_validate({"algorithm": {"type": "ppo", "critics": critics}})
    seen = scalarizer.seen(outcomes.rewards(["a", "b"]), config.score_clip)
    scored = score_tokens(outcomes, scalarizer, seen, scalarize(scalarizer, seen), config, 0.0)
    return scored.rewards_BTK[:, 0].tolist(), scored.weights_BK.tolist()


def test_critics_learn_the_rewards_that_are_combined() -> None:
    """2 - 2 * 0.5 and 9 - 2 * 1, which is bounded to 5: not 2 and 5. The last critic is that of the penalties."""
    cautious = WeightedSum(pessimism=2.0)
    rewards, weights = token_rewards(cautious, [[2.0, 9.0]], [[0.5, 1.0]], "per_objective")
    assert rewards == [[1.0, 5.0, 0.0]]
    assert weights == [[0.5, 0.5, 1.0]]
    assert token_rewards(cautious, [[2.0, 9.0]], [[0.5, 1.0]], "single")[0] == [[3.0]]
    # a cost counts for more than it is: 1 + 2 * 0.5
    bound = Lagrangian(at_most={"b": 0.0}, initial=1.0, pessimism=2.0)
    rewards, weights = token_rewards(bound, [[2.0, 1.0]], [[0.5, 0.5]], "per_objective")
    assert rewards == [[1.0, 2.0, 0.0]]
    assert weights == [[0.5, -0.5, 1.0]]


def test_critics_learn_standardised_rewards() -> None:
    """100 and 300 words, 1 and 3: both two answers a deviation of sqrt(2) / 2 from their mean."""
    rewards, weights = token_rewards(
        Standardised(over="batch"), [[100.0, 1.0], [300.0, 3.0]], [[0.0, 0.0]] * 2, "per_objective"
    )
    assert [pytest.approx([-0.70711, -0.70711, 0.0], abs=1e-4), rewards[1]] == rewards
    assert rewards[1] == pytest.approx([0.70711, 0.70711, 0.0], abs=1e-4)
    assert weights == [[0.5, 0.5, 1.0]] * 2


def advantages(outcomes: Outcomes, scalarizer: ScalarizerBase, **settings: Any) -> Tensor:
    """Of a step with these settings, from its outcomes: (B, T)."""
    config = PpoConfig.model_validate(settings)
    seen = scalarizer.seen(outcomes.rewards(["a", "b"][: outcomes.rewards_BK.shape[1]]), config.score_clip)
    scored = score_tokens(outcomes, scalarizer, seen, scalarize(scalarizer, seen), config, config.kl_coef)
    return compute_advantages(config.algorithm, scored)[0]


# log pi - log ref of two tokens each: 0.5, 1 and 1.5 nats an answer
DRIFT = [[0.5, 0.0], [0.25, 0.75], [0.5, 1.0]]
GROUPED = {"answers_per_prompt": 3}


@pytest.mark.parametrize(
    ("algorithm", "settings", "expected"),
    [
        # rewards of 1 - 2 * (0.5, 1, 1.5) = 0, -1, -2: mean -1, deviation 1
        ("grpo", {"kl_coef": 2.0}, [1 / 1.0001, 0.0, -1 / 1.0001]),
        # against the others' means of -1.5, -1 and -0.5
        ("rloo", {"kl_coef": 2.0}, [1.5, 0.0, -1.5]),
        # k2 is half the square of each token: 0.125, 0.3125 and 0.625 nats, so rewards of 1 - 8 of these: 0, -1.5, -4
        ("rloo", {"kl_coef": 8.0, "kl_estimator": "k2"}, [2.75, 0.5, -3.25]),
        ("grpo", {"kl_coef": 0.0}, [0.0, 0.0, 0.0]),
        ("grpo", {"kl_coef": 2.0, "kl_in": "loss", "kl_estimator": "k3"}, [0.0, 0.0, 0.0]),
        ("rloo", {"kl_coef": 2.0, "kl_in": "loss", "kl_estimator": "k3"}, [0.0, 0.0, 0.0]),
    ],
)
def test_answers_are_compared_with_their_kl_where_it_is_in_the_reward(
    algorithm: str, settings: dict[str, Any], expected: list[float]
) -> None:
    """Three answers that score alike, and drift from the reference by more and more."""
    outcomes = outcomes_of([[1.0]] * 3, group=[0, 0, 0], kl=DRIFT)
    given = advantages(outcomes, WeightedSum(), algorithm={"type": algorithm}, **GROUPED, **settings)
    assert given[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(given[:, 0], given[:, 1])


class AgainstTheBest(AlgorithmBase):
    """A user's: the score less the best of the group."""

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        return (scored.scores_B - scored.scores_B.max()).unsqueeze(1) * scored.mask_BT, None


def test_an_algorithm_of_the_users_has_the_kl_in_the_scores() -> None:
    outcomes = outcomes_of([[1.0]] * 3, group=[0, 0, 0], kl=DRIFT)
    given = advantages(outcomes, WeightedSum(), algorithm=AgainstTheBest(), kl_coef=2.0)
    assert given[:, 0].tolist() == pytest.approx([0.0, -1.0, -2.0])


def test_gdpo_by_its_formula() -> None:
    """Two groups of three, two rewards: a differs by 1 where b differs by 10. The expected values are of the formula of
    GDPO in numpy: each reward normalised in its group, the weighted sum, then over the batch."""
    values = np.array([[0.0, 10.0], [1.0, 0.0], [2.0, 20.0], [5.0, 1.0], [5.0, 2.0], [5.0, 3.0]])
    grouped = values.reshape(2, 3, 2)
    apart = (grouped - grouped.mean(1, keepdims=True)) / (grouped.std(1, ddof=1, keepdims=True) + 1e-4)
    summed = (apart * np.array([2.0, 1.0]) / 3).sum(-1).reshape(-1)
    expected = (summed - summed.mean()) / (summed.std(ddof=1) + 1e-4)
    scalarizer = Standardised(over="group", weights={"a": 2.0, "b": 1.0})
    outcomes = outcomes_of(values.astype("float32").tolist(), group=[0, 0, 0, 1, 1, 1])
    given = advantages(outcomes, scalarizer, algorithm={"type": "grpo"}, kl_coef=0.0, **GROUPED)
    assert given[:, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    # by hand: (-1, 0, 1) and (0, -1, 1) weighed 2 : 1 give -2/3, -1/3, 1 beside -1/3, 0, 1/3
    assert summed == pytest.approx([-2 / 3, -1 / 3, 1.0, -1 / 3, 0.0, 1 / 3], abs=1e-3)


def test_standardised_rewards_that_differ_by_rounding_are_alike() -> None:
    """0.3 as three batches read it, and one answer that is better on b."""
    rewards = [[0.3, 1.0], [0.3 + 2e-7, 1.0], [0.3 - 1e-7, 4.0]]
    for over in ("group", "batch", "running"):
        seen = Standardised(over=over).seen(outcomes_of(rewards, group=[0, 0, 0]).rewards(["a", "b"]))
        assert seen.mean_BK[:, 0].tolist() == [0.0, 0.0, 0.0]
        assert seen.mean_BK[2, 1].item() == pytest.approx(2 / math.sqrt(3), abs=1e-3)


def test_critics_learn_from_what_was_judged() -> None:
    judged = torch.tensor([[True, False], [False, True]])
    config = PpoConfig.model_validate({"algorithm": {"type": "ppo", "critics": "per_objective"}})
    learns = learning_critics(config.algorithm, judged)
    assert learns is not None
    assert learns.tolist() == [[True, False, True], [False, True, True]]
    assert learning_critics(PpoConfig().algorithm, judged) is None


class Broken(AlgorithmBase):
    """A user's, which does what `how` says."""

    how: str

    def advantages(self, scored: Scored) -> Any:
        if self.how == "raises":
            raise KeyError("temperature")
        gives: dict[str, Any] = {
            "one": scored.scores_B,
            "flat": (scored.scores_B, None),
            "nan": (scored.mask_BT * math.nan, None),
            "returns": (scored.mask_BT * 1.0, scored.rewards_BTK),
        }
        return gives[self.how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "raises",
            r"algorithm Broken: advantages raised KeyError: 'temperature' \(.*test_scoring.py, line \d+\)",
        ),
        ("one", "gave Tensor, where a pair was asked for"),
        ("flat", r"gave shape \(3,\) where advantages \(B, T\) of shape \(3, 2\) were asked for"),
        ("nan", r"advantages \(B, T\): 6 of 6 aren't finite"),
        ("returns", "gave returns, and has no critic"),
    ],
)
def test_an_algorithm_of_the_users_that_gives_something_else(how: str, message: str) -> None:
    outcomes = outcomes_of([[1.0]] * 3, group=[0, 0, 0], kl=DRIFT)
    with pytest.raises(RunError, match=message):
        advantages(outcomes, WeightedSum(), algorithm=Broken(how=how))


class Strange(ScalarizerBase):
    """A user's, which gives a score an objective, or divides by 0."""

    how: str

    def combine(self, rewards: Rewards) -> Tensor:
        if self.how == "raises":
            return rewards.mean_BK[:, rewards.objectives.index("beauty")]
        return rewards.mean_BK if self.how == "wide" else rewards.mean_BK[:, 0] / 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "scalarizer Strange: combine raised ValueError"),
        ("wide", r"gave shape \(1, 2\) where one score an answer of shape \(1,\)"),
        ("infinite", "1 of 1 aren't finite"),
    ],
)
def test_a_scalarizer_of_the_users_that_gives_something_else(how: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        advantages(outcomes_of([[1.0, 2.0]]), Strange(how=how))
