"""Expected values are worked out by hand from equations 11 to 16 of Schulman et al. 2016."""

import pytest
import torch

from mmrlhf.rl.advantages import above_group, alike, gae, group_mean, rewards_to_go, token_rewards


def test_gae_by_hand() -> None:
    # row 0: deltas -0.14, -0.13, 0.7 and gamma lam = 0.72; row 1: one token, then padding that must not count
    rewards = torch.tensor([[0.0, 0.0, 1.0], [2.0, 9.0, 9.0]])
    values = torch.tensor([[0.5, 0.4, 0.3], [0.5, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages, returns = gae(rewards, values, mask, gamma=0.9, lam=0.8)
    torch.testing.assert_close(advantages, torch.tensor([[0.12928, 0.374, 0.7], [1.5, 0.0, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.62928, 0.774, 1.0], [2.0, 0.0, 0.0]]))


def test_gae_of_two_critics_at_once() -> None:
    """The first as by hand above; the second with its rewards doubled and no values."""
    rewards = torch.tensor([[0.0, 0.0, 1.0], [2.0, 9.0, 9.0]])
    values = torch.tensor([[0.5, 0.4, 0.3], [0.5, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages, returns = gae(
        torch.stack([rewards, 2 * rewards], -1),
        torch.stack([values, 0 * values], -1),
        mask,
        gamma=0.9,
        lam=0.8,
    )
    torch.testing.assert_close(advantages[..., 0], torch.tensor([[0.12928, 0.374, 0.7], [1.5, 0.0, 0.0]]))
    torch.testing.assert_close(returns[..., 1], torch.tensor([[1.0368, 1.44, 2.0], [4.0, 0.0, 0.0]]))


def test_rewards_to_go_by_hand() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = rewards_to_go(torch.tensor([[1.0, 2.0, 4.0], [3.0, 9.0, 9.0]]), mask, gamma=0.5)
    torch.testing.assert_close(found, torch.tensor([[3.0, 4.0, 4.0], [3.0, 0.0, 0.0]]))


def test_group_mean() -> None:
    mean, count = group_mean(torch.tensor([1.0, 0.0, 3.0, 6.0, 0.0]), torch.tensor([0, 1, 0, 1, 1]))
    assert mean.tolist() == [2.0, 2.0, 2.0, 2.0, 2.0]
    assert count.tolist() == [2.0, 3.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("lam", "expected"), [(0.0, [0.0, 0.5]), (1.0, [0.5, 0.5])])
def test_gae_ends(lam: float, expected: list[float]) -> None:
    """lambda 0 is the one-step error, lambda 1 the return minus the value."""
    advantages, _ = gae(
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[0.5, 0.5]]),
        torch.ones(1, 2, dtype=torch.bool),
        gamma=1.0,
        lam=lam,
    )
    torch.testing.assert_close(advantages, torch.tensor([expected]))


def test_score_lands_on_the_last_real_token() -> None:
    kl = torch.tensor([[0.1, 0.2, 0.3], [0.5, 7.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rewards = token_rewards(torch.tensor([1.0, -1.0]), kl, kl_coef=0.5, mask_BT=mask)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, -0.1, 0.85], [-1.25, 0.0, 0.0]]))


def test_above_group() -> None:
    """Means of 2 and 0.5; the second group differs by rounding only, and so does the third at its size."""
    values = torch.tensor([1.0, 0.5, 3.0, 0.5 + 1e-6, 1e4, 1e4 + 1e-3])
    group = torch.tensor([0, 1, 0, 1, 4, 4])
    above, count = above_group(values, group)
    assert above.tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert count.tolist() == [2.0] * 6
    assert alike(values, group).tolist() == [False, True, False, True, True, True]
