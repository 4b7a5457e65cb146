"""Reward losses by hand: -log sigma(1) = 0.313262, -log sigma(-1) = 1.313262."""

import torch

from mmrlhf.rewards.losses import bradley_terry, centering


def test_bradley_terry() -> None:
    better, worse = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    loss = bradley_terry(better, worse, torch.tensor([False, False, True]))
    torch.testing.assert_close(loss, torch.tensor([0.313262, 1.313262, 0.813262]))


def test_a_tie_pulls_rewards_together() -> None:
    gap = torch.tensor([0.5], requires_grad=True)
    bradley_terry(gap, torch.zeros(1), torch.tensor([True])).sum().backward()
    assert gap.grad is not None
    assert gap.grad.item() > 0
    equal = bradley_terry(torch.zeros(1), torch.zeros(1), torch.tensor([True]))
    torch.testing.assert_close(equal, torch.tensor([0.693147]))


def test_centering() -> None:
    torch.testing.assert_close(centering(torch.tensor([1.0]), torch.tensor([0.5])), torch.tensor([2.25]))
