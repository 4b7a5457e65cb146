import math

import pytest

from mmrlhf.evaluation.intervals import (
    Estimate,
    estimate,
    mean_with_interval,
    paired_difference,
    paired_ratio_difference,
    ratio_with_interval,
)


def test_equal_values_have_no_spread():
    assert mean_with_interval([2.0, 2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, 3)


def test_interval_of_a_share():
    found = mean_with_interval([1.0] * 60 + [0.0] * 40)
    # the normal approximation: 0.6 +- 1.96 sqrt(0.6 * 0.4 / 100) = 0.6 +- 0.096
    assert found.mean == pytest.approx(0.6)
    assert found.low == pytest.approx(0.504, abs=0.015)
    assert found.high == pytest.approx(0.696, abs=0.015)
    assert found.n == 100


def test_the_seed_decides():
    values = [0.3, 1.7, 2.0, -1.0, 0.2]
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)
    assert mean_with_interval(values, seed=1) != mean_with_interval(values, seed=2)


def test_wider_at_a_higher_level():
    values = [float(i) for i in range(50)]
    narrow, wide = mean_with_interval(values, level=0.5), mean_with_interval(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_ratio_pools_before_it_divides():
    # 1 of 1 and 0 of 3: pooled 1/4, while the mean of shares is 1/2
    assert ratio_with_interval([1, 0], [1, 3]).mean == pytest.approx(0.25)


def test_paired_difference_of_a_constant_shift():
    found = paired_difference([0.0, 5.0, 9.0], [1.0, 6.0, 10.0])
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)


def test_paired_ratio_difference():
    # before 2 of 4, after 3 of 4, on the same two captions
    found = paired_ratio_difference(([1, 1], [2, 2]), ([2, 1], [2, 2]))
    assert found.mean == pytest.approx(0.25)
    # a resample holds the first caption 0, 1 or 2 times: differences of 0, 1/4 and 1/2
    assert (found.low, found.high) == (0.0, 0.5)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        mean_with_interval(values)


def test_refuses_lists_that_do_not_pair():
    with pytest.raises(ValueError, match="paired"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="paired"):
        paired_ratio_difference(([1], [1]), ([1, 2], [1, 2]))


def test_nothing_measured_is_none():
    assert estimate([]) is None
