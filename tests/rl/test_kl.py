"""KL estimates and their controller, by hand."""

import math

import pytest
import torch

from mmrlhf.rl.kl import KlController, answer_kl, kl_k1, kl_k2, kl_k3

LOG = torch.tensor([[math.log(0.5), math.log(0.25), 7.0]])
REF = torch.tensor([[math.log(0.25), math.log(0.5), 0.0]])
MASK = torch.tensor([[True, True, False]])


def test_k1_keeps_its_sign() -> None:
    torch.testing.assert_close(kl_k1(LOG, REF, MASK), torch.tensor([[0.693147, -0.693147, 0.0]]))
    assert answer_kl(LOG, REF, MASK).item() == pytest.approx(0.0, abs=1e-6)


def test_k3() -> None:
    """ref / pi = 0.5: 0.5 - 1 + 0.693147; = 2: 2 - 1 - 0.693147."""
    torch.testing.assert_close(kl_k3(LOG, REF, MASK), torch.tensor([[0.193147, 0.306853, 0.0]]))


def test_k2() -> None:
    """Half of 0.693147 squared, twice."""
    torch.testing.assert_close(kl_k2(LOG, REF, MASK), torch.tensor([[0.240227, 0.240227, 0.0]]))


def test_k1_and_k3_estimate_the_same_divergence() -> None:
    """Their mean under pi = (0.5, 0.3, 0.2) is KL(pi || uniform) = log 3 - 1.029653."""
    pi, ref = torch.tensor([[0.5, 0.3, 0.2]]), torch.full((1, 3), 1 / 3)
    mask = torch.ones(1, 3, dtype=torch.bool)
    for estimate in (kl_k1, kl_k3):
        assert (pi * estimate(pi.log(), ref.log(), mask)).sum().item() == pytest.approx(0.068959, abs=1e-5)


@pytest.mark.parametrize(("kl", "coef"), [(12.0, 0.102), (3.0, 0.098), (6.6, 0.101), (6.0, 0.1)])
def test_controller(kl: float, coef: float) -> None:
    controller = KlController(0.1, target=6.0)
    controller.update(kl)
    assert controller.coef == pytest.approx(coef)


def test_fixed_controller() -> None:
    controller = KlController(0.1)
    controller.update(100.0)
    assert controller.coef == 0.1


def test_k3_is_bounded_a_token() -> None:
    """Log ratios of ref and pi of 2 and 3: e^2 - 3 = 4.389, and e^3 - 4 = 16.1, which is cut to 10. A token that the
    policy has all but ruled out is no infinity."""
    log_ratio = torch.tensor([[2.0, 3.0, 500.0, -500.0]])
    found = kl_k3(torch.zeros(1, 4), log_ratio, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[4.389056, 10.0, 10.0, 10.0]]))
