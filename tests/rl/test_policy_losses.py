"""The clipped losses against numbers worked out by hand."""

import math

import pytest
import torch

from mmrlhf.rl.losses import policy_loss, value_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -2.4, True),  # gains from above 1.2 don't count
        (1.5, -1.0, 1.5, False),  # losses do
        (0.5, 1.0, -0.5, False),
        (0.5, -1.0, 0.8, True),
        (1.1, 1.0, -1.1, False),
    ],
)
def test_policy_loss(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    found, cut = policy_loss(torch.tensor([[math.log(ratio)]]), torch.tensor([[advantage]]), 0.2, 0.2)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert cut.item() == clipped


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.25, 1.0, -1.25, False),  # within 1 + 0.28
        (1.5, 1.0, -1.28, True),
        (0.7, -1.0, 0.8, True),
        (5.0, -1.0, 3.0, True),  # the dual clip: at most 3 times the advantage
        (2.0, -1.0, 2.0, False),
    ],
)
def test_asymmetric_and_dual_clip(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    log_ratio, advantages = torch.tensor([[math.log(ratio)]]), torch.tensor([[advantage]])
    found, cut = policy_loss(log_ratio, advantages, 0.2, 0.28, dual_clip=3.0)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert cut.item() == clipped


@pytest.mark.parametrize(
    ("value", "old", "returns", "loss", "clipped"),
    [
        (1.0, 0.5, 0.0, 0.5, False),  # 0.5 * max(1.0^2, 0.7^2)
        (1.0, 0.5, 2.0, 0.845, True),  # 0.5 * max(1.0^2, 1.3^2): the step beyond 0.7 earns nothing
        (0.6, 0.5, 0.5, 0.005, False),
    ],
)
def test_value_loss(value: float, old: float, returns: float, loss: float, clipped: bool) -> None:
    found, cut = value_loss(torch.tensor([value]), torch.tensor([old]), torch.tensor([returns]), 0.2)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert cut.item() == clipped


def test_gradient_is_the_policy_gradient_at_ratio_1() -> None:
    """At the old policy the gradient of the loss is -A, and nothing flows where the clip bites."""
    advantages = torch.tensor([[2.0, -3.0]])
    for start, expected in ((0.0, [-2.0, 3.0]), (math.log(1.5), [0.0, 4.5])):
        log_ratio = torch.full((1, 2), start, requires_grad=True)
        policy_loss(log_ratio, advantages, 0.2, 0.2)[0].sum().backward()
        torch.testing.assert_close(log_ratio.grad, torch.tensor([expected]))


def test_a_log_ratio_is_bounded_to_20() -> None:
    """e^20 is 485,165,195; what lies beyond has no gradient."""
    log_ratio = torch.tensor([[500.0, 19.0]], requires_grad=True)
    loss, _ = policy_loss(log_ratio, torch.tensor([[-1.0, -1.0]]), 0.2, 0.2)
    assert loss.tolist() == [[pytest.approx(485165195.4, rel=1e-6), pytest.approx(178482300.96, rel=1e-6)]]
    loss.sum().backward()
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == [[0.0, pytest.approx(178482300.96, rel=1e-6)]]
