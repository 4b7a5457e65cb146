import math

import numpy as np
import pytest

from data_tools.intervals import (
    Estimate,
    beyond_chance,
    bootstrap,
    clustered_mean,
    clustered_share,
    estimate,
    mean_with_interval,
    paired_difference,
    paired_ratio_difference,
    ratio_with_interval,
    share_right,
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


def test_a_cluster_is_drawn_as_one():
    values = [1.0, 0.0] * 20
    together = clustered_mean(values, [i // 2 for i in range(40)])
    # each cluster holds one of both, so every resample's mean is 1/2
    assert together == Estimate(0.5, 0.5, 0.5, 40)
    apart = clustered_mean(values, range(40))
    assert apart.low < 0.4 < 0.6 < apart.high
    assert clustered_mean([], []) is None


def test_shares_of_all_and_of_nothing_have_wilsons_interval():
    """Three of three: 3 / (3 + 1.96^2) = 0.4385; none of two clusters: 1.96^2 / (2 + 1.96^2) = 0.6576."""
    found = clustered_share([True] * 3, range(3))
    assert (found.mean, found.low, found.high, found.n) == (1.0, pytest.approx(0.4385, abs=1e-4), 1.0, 3)
    found = clustered_share([False] * 4, "aabb")
    assert (found.mean, found.low, found.high, found.n) == (0.0, 0.0, pytest.approx(0.6576, abs=1e-4), 4)
    some = [True, False, True, True, False]
    assert share_right(some, seed=3) == mean_with_interval([1.0, 0.0, 1.0, 1.0, 0.0], seed=3)
    assert clustered_share([], []) is None
    # three of four, all of one cluster: Wilson's interval of one item, (0.75 + 1.92 -+ 1.96 * 1.0713) / 4.84
    found = clustered_share([True, True, True, False], "aaaa")
    assert (found.low, found.high) == pytest.approx((0.1180, 0.9857), abs=1e-3)


def test_how_far_beyond_chance():
    """16 clusters that are right: 16 / root of 16; what is even has no say, and one cluster is one."""
    assert beyond_chance([0.5] * 16, range(16)) == pytest.approx(4.0)
    assert beyond_chance(
        [0.5] * 16 + [0.5, -0.5] * 50, [*range(16), *(100 + i // 2 for i in range(100))]
    ) == (pytest.approx(4.0))
    assert beyond_chance([0.5] * 16, [0] * 16) == pytest.approx(1.0)
    assert beyond_chance([0.5, -0.5], [7, 7]) == beyond_chance([], []) == 0.0


def test_clusters_of_one_are_plain_items():
    values = [0.3, 1.7, 2.0, -1.0, 0.2]
    assert clustered_mean(values, "abcde", seed=3) == mean_with_interval(values, seed=3)


def test_the_bootstrap_of_a_mean_is_its_interval():
    values = np.array([0.3, 1.7, 2.0, -1.0, 0.2])
    found = bootstrap(lambda index: float(values[index].mean()), range(5), seed=3)
    plain = mean_with_interval(values, seed=3)
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_resamples_without_a_value_are_left_out():
    found = bootstrap(lambda index: math.nan if len(set(index)) == 1 else 1.0, range(3))
    assert found == Estimate(1.0, 1.0, 1.0, 3)
    with pytest.raises(ValueError, match="at least one item"):
        bootstrap(lambda index: 0.0, [])
