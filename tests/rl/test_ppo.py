"""The clipped losses against numbers worked out by hand."""

import math

import pytest
import torch

from mmrlhf.rl.ppo import PpoTerms, ppo_terms


def terms(
    ratio: float = 1.0,
    advantage: float = 0.0,
    value: float = 0.0,
    old_value: float = 0.0,
    returns: float = 0.0,
) -> PpoTerms:
    """One real token, and one of padding full of nonsense."""

    def row(x: float) -> torch.Tensor:
        return torch.tensor([[x, float("nan")]])

    return ppo_terms(
        row(math.log(ratio)),
        row(0.0),
        row(advantage),
        row(value),
        row(old_value),
        row(returns),
        torch.tensor([[True, False]]),
        cliprange=0.2,
        cliprange_value=0.2,
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -2.4, 1),  # gains from above 1.2 don't count
        (1.5, -1.0, 1.5, 0),  # losses do
        (0.5, 1.0, -0.5, 0),
        (0.5, -1.0, 0.8, 1),
        (1.1, 1.0, -1.1, 0),
    ],
)
def test_policy_loss(ratio: float, advantage: float, loss: float, clipped: int) -> None:
    out = terms(ratio=ratio, advantage=advantage)
    assert out.policy.item() == pytest.approx(loss, abs=1e-6)
    assert out.clipped.item() == clipped
    assert out.ratio.item() == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "old", "returns", "loss", "clipped"),
    [
        (1.0, 0.5, 0.0, 0.5, 0),  # 0.5 * max(1.0^2, 0.7^2)
        (1.0, 0.5, 2.0, 0.845, 1),  # 0.5 * max(1.0^2, 1.3^2): the step beyond 0.7 earns nothing
        (0.6, 0.5, 0.5, 0.005, 0),
    ],
)
def test_value_loss(value: float, old: float, returns: float, loss: float, clipped: int) -> None:
    out = terms(value=value, old_value=old, returns=returns)
    assert out.value.item() == pytest.approx(loss, abs=1e-6)
    assert out.value_clipped.item() == clipped


def test_approx_kl() -> None:
    """(r - 1) - log r at r = 2 is 1 - 0.693147."""
    assert terms(ratio=2.0).approx_kl.item() == pytest.approx(0.306853, abs=1e-5)


def test_gradient_is_the_policy_gradient_at_ratio_1() -> None:
    """At the old policy the gradient of the loss is -A, and nothing flows where the clip bites."""
    logprobs = torch.zeros(1, 2, requires_grad=True)
    zeros, mask = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    advantages = torch.tensor([[2.0, -3.0]])
    out = ppo_terms(logprobs, zeros, advantages, zeros, zeros, zeros, mask, 0.2, 0.2)
    out.policy.backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-2.0, 3.0]]))
    far = torch.full((1, 2), math.log(1.5), requires_grad=True)
    ppo_terms(far, zeros, torch.tensor([[2.0, -3.0]]), zeros, zeros, zeros, mask, 0.2, 0.2).policy.backward()
    torch.testing.assert_close(far.grad, torch.tensor([[0.0, 4.5]]))
