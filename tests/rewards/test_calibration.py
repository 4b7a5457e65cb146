"""Temperatures and calibration errors by hand."""

import math

import pytest
import torch

from mmrlhf.rewards.calibration import calibrate, expected_calibration_error, fit_temperature


def test_the_calibration_error_by_hand() -> None:
    sure, unsure = math.log(0.83 / 0.17), math.log(0.52 / 0.48)
    # ten pairs at 83 %, six of them right, and ten at 52 %, five of them right
    gaps = [sure] * 6 + [-sure] * 4 + [unsure] * 5 + [-unsure] * 5
    assert expected_calibration_error(torch.tensor(gaps)) == pytest.approx(0.5 * 0.23 + 0.5 * 0.02, abs=1e-6)
    # what says nothing and is half right is as it should be
    assert expected_calibration_error(torch.zeros(4)) == 0.0
    # certain and right, certain and wrong
    assert expected_calibration_error(torch.tensor([50.0, 50.0])) == pytest.approx(0.0, abs=1e-9)
    assert expected_calibration_error(torch.tensor([50.0, -50.0])) == pytest.approx(0.5, abs=1e-9)


def test_a_temperature_by_hand() -> None:
    """Of 98 pairs with a gap of 2 either way 70 are right; with a target of 99 / 100 the best probability is
    5/7 * 0.99 + 2/7 * 0.01 = 0.71, so T = 2 / ln(0.71 / 0.29)."""
    gaps = torch.tensor([2.0] * 70 + [-2.0] * 28)
    assert fit_temperature(gaps) == pytest.approx(2.23368, abs=1e-4)
    # always right: the target of 9 / 10 keeps it finite, T = 1 / ln 9
    assert fit_temperature(torch.ones(8)) == pytest.approx(0.455120, abs=1e-5)
    assert fit_temperature(-torch.ones(8)) == pytest.approx(1000.0)


def test_calibration_takes_back_what_is_too_sure() -> None:
    # gaps of 6 and of 3 that are right in 70 % and 60 % of all cases
    gaps = ([6.0] * 7 + [-6.0] * 3 + [3.0] * 6 + [-3.0] * 4) * 10
    order = torch.randperm(len(gaps), generator=torch.Generator().manual_seed(0))
    found = calibrate(torch.tensor(gaps)[order], range(200))
    assert found.pairs == 200
    assert found.temperature > 5
    # 0.9975 and 0.9526 against 0.7 and 0.6
    assert found.error_before == pytest.approx(0.5 * (0.99753 - 0.7) + 0.5 * (0.95257 - 0.6), abs=1e-4)
    assert found.error_after < 0.1
    with pytest.raises(ValueError, match="two groups"):
        calibrate(torch.ones(2), [7, 7])


def test_what_hangs_together_is_in_one_fold() -> None:
    """Group 0 is right twice at a gap of 1, which says T = 1 / ln 3, group 1 wrong twice, which says T = 1000. So the
    first is 50.025 % sure and right, the second 75 % sure and wrong: (2 * 0.49975 + 2 * 0.75) / 4. Pairs by turns, or
    one after the other, would put both groups into each fold."""
    assert calibrate(torch.tensor([1.0, 1.0, -1.0, -1.0]), [0, 0, 1, 1]).error_after == pytest.approx(
        0.624875, abs=1e-5
    )
    assert calibrate(torch.tensor([1.0, -1.0, 1.0, -1.0]), [0, 1, 0, 1]).error_after == pytest.approx(
        0.624875, abs=1e-5
    )
