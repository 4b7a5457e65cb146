"""What algorithms are given, against numbers worked out by hand."""

from typing import Any

import pytest
import torch

from mmrlhf.config import PpoConfig
from mmrlhf.rewards.scalarizers import Lagrangian, ScalarizerBase, Standardised, WeightedSum
from mmrlhf.rl.scoring import scalarize, score_tokens
from mmrlhf.types import Outcomes


def token_rewards(
    scalarizer: ScalarizerBase, rewards: list[list[float]], stds: list[list[float]], critics: str
) -> tuple[list[Any], list[Any]]:
    """Each answer's reward for each critic, of answers of one token, and the critics' weights."""
    rewards_BK, zeros_B1 = torch.tensor(rewards), torch.zeros(len(rewards), 1)
    outcomes = Outcomes(
        group_B=torch.arange(len(rewards)),
        image_B=torch.zeros(len(rewards), dtype=torch.bool),
        ended_B=torch.ones(len(rewards), dtype=torch.bool),
        rewards_BK=rewards_BK,
        judged_BK=torch.ones_like(rewards_BK, dtype=torch.bool),
        std_BK=torch.tensor(stds),
        gate_BK=None,
        asked_BK=None,
        mask_BT=torch.ones(len(rewards), 1, dtype=torch.bool),
        logprobs_BT=zeros_B1,
        ref_logprobs_BT=zeros_B1,
        values_BTK=None,
    )
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
