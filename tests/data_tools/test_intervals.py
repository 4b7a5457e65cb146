import math

import numpy as np
import pytest
from scipy import stats

from data_tools.intervals import (
    Estimate,
    auroc,
    beyond_chance,
    clustered_change,
    clustered_estimate,
    clustered_mean,
    clustered_share,
    concordance,
    difference,
    gap_auc,
    mean_of_parts,
    share_change,
    share_right,
    wilson,
)

VALUES = [0.3, 1.7, 2.0, -1.0, 0.2]


def ends(found):
    return pytest.approx((found.low, found.high), abs=1e-4)


def test_the_mean_of_items_that_stand_alone_has_students_interval():
    found = clustered_mean(VALUES, range(5))
    assert (found.mean, found.n) == (pytest.approx(0.64), 5)
    assert stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES)) == ends(found)


def test_clusters_of_one_size_are_as_good_as_their_means():
    values = [0.0, 1.0, 2.0, 0.0, 5.0, 1.0, 0.0, -1.0]
    means = [0.5, 1.0, 3.0, -0.5]
    found = clustered_mean(values, "aabbccdd")
    assert stats.t.interval(0.95, 3, np.mean(means), stats.sem(means)) == ends(found)
    assert found.n == 8


def test_clusters_of_many_sizes_have_bell_and_mccaffreys_interval():
    """CR2 and its degrees of freedom as the paper has them: with the hat matrix, for a regression on a constant."""
    sizes = [1, 1, 2, 3, 5]
    names = np.repeat(np.arange(5), sizes)
    values = np.array([0.2, 1.0, -1.0, 0.5, 2.0, 1.5, -0.5, 0.3, 0.8, -1.2, 0.1, 0.9])
    hat = np.full((12, 12), 1 / 12)
    inside = [names == g for g in range(5)]
    parts = []  # of each cluster: the vector whose product with the values is its term of the variance
    for of in inside:
        roots, vectors = np.linalg.eigh(np.eye(of.sum()) - hat[np.ix_(of, of)])
        adjusted = vectors @ np.diag(roots**-0.5) @ vectors.T
        parts.append(np.ones(of.sum()) @ adjusted @ (np.eye(12) - hat)[of] / 12)
    variance = sum((part @ values) ** 2 for part in parts)
    gram = np.array(parts) @ np.array(parts).T
    freedom = np.trace(gram) ** 2 / np.trace(gram @ gram)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    found = clustered_mean(values, names)
    assert (values.mean() - half, values.mean() + half) == ends(found)


def test_one_cluster_alone_does_not_tell_how_others_differ():
    found = clustered_mean([2.0, 3.0], "aa")
    assert found.mean == 2.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    # of a share Wilson's of one item: (0.75 + 1.9207 -+ 1.96 * 1.0714) / 4.8415
    assert ends(clustered_share([True, True, True, False], "aaaa")) == (0.1179, 0.9854)


def test_equal_values_have_no_spread():
    assert clustered_mean([2.0, 2.0, 2.0], range(3)) == Estimate(2.0, 2.0, 2.0, 3)


def test_wilsons_interval_as_published():
    """R. Newcombe, Statistics in Medicine 17, 1998, p. 857, table I, method 3."""
    for right, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert (low, high) == ends(share_right([True] * right + [False] * (of - right)))
        assert wilson(right / of, of) == pytest.approx((low, high), abs=1e-4)


def test_shares_of_all_and_of_nothing_have_wilsons_interval():
    """Three of three: 3 / (3 + 1.96^2) = 0.4385; none of two clusters: 1.96^2 / (2 + 1.96^2) = 0.6576."""
    assert ends(clustered_share([True] * 3, range(3))) == (0.4385, 1.0)
    found = clustered_share([False] * 4, "aabb")
    assert (found.mean, found.n) == (0.0, 4)
    assert ends(found) == (0.0, 0.6576)
    # pooled claims: 8 of 8 in four captions are four items, not eight: 4 / (4 + 1.96^2)
    assert ends(clustered_share([2, 2, 2, 2], range(4), [2, 2, 2, 2])) == (0.5101, 1.0)
    # a large cluster beside two of one item: (8 + 1 + 1)^2 / (64 + 1 + 1) = 1.515
    assert clustered_share([True] * 10, "aaaaaaaabc").low == pytest.approx(1.515 / (1.515 + 3.8415), abs=1e-3)
    assert clustered_share([], []) is None


def test_clusters_that_are_all_right_or_all_wrong_count_as_one_item_each():
    """20 clusters of 5, half of them right: the variance is that of 20 items, 1/4 / 19, and t has 19 degrees of
    freedom; Wilson's of so many items, 19, with t = 2.093 in place of 1.96: 0.5 +- 0.5 / sqrt(1 + 19 / 2.093^2)."""
    names = np.repeat(np.arange(20), 5)
    half = 0.5 / math.sqrt(1 + 19 / 2.0930**2)
    assert (0.5 - half, 0.5 + half) == ends(clustered_share((names % 2).astype(float), names))


def test_a_ratio_pools_before_it_divides():
    # 1 of 1 and 0 of 3: pooled 1/4, while the mean of shares is 1/2
    assert clustered_share([1, 0], "ab", [1, 3]).mean == pytest.approx(0.25)


def test_a_cluster_is_drawn_as_one():
    values = [1.0, 0.0] * 20
    together = clustered_share(values, [i // 2 for i in range(40)])
    # each cluster holds one of both; believed as if in one of 21 clusters the items were independent
    assert 0.45 < together.low < 0.5 < together.high < 0.55
    apart = clustered_share(values, range(40))
    assert apart.low < 0.36 < 0.64 < apart.high


def test_numbers_that_are_all_0_or_1_are_a_share():
    assert clustered_estimate([1.0] * 8, range(8)) == clustered_share([1.0] * 8, range(8))
    assert clustered_estimate([1.0, 0.5], "ab") == clustered_mean([1.0, 0.5], "ab")
    assert clustered_estimate([], []) is None


def test_the_change_of_a_number_is_students_of_the_differences():
    before, after = [0.0, 5.0, 9.0, 2.0], [1.0, 5.5, 8.0, 4.0]
    differences = np.subtract(after, before)
    found = clustered_change(before, after, range(4))
    assert stats.t.interval(0.95, 3, differences.mean(), stats.sem(differences)) == ends(found)
    shifted = clustered_change([0.0, 5.0, 9.0], [1.0, 6.0, 10.0], range(3))
    assert (shifted.mean, shifted.low, shifted.high, shifted.n) == (1.0, 1.0, 1.0, 3)


def test_the_change_of_a_share_is_newcombes():
    """Of 50: 36 right both times, 12 before only, 2 after only, 0 neither. Wilson's intervals are 0.8654 to 0.9890 of
    48 and 0.6259 to 0.8570 of 38; phi = -24 / sqrt(48 * 2 * 38 * 12) = -0.11471. So -0.2
    - sqrt(0.1341^2 + 0.0290^2 + 2 * 0.11471 * 0.1341 * 0.0290) = -0.3405 and
    + sqrt(0.0970^2 + 0.0946^2 + 2 * 0.11471 * 0.0970 * 0.0946) = -0.0569."""
    before = [1.0] * 36 + [1.0] * 12 + [0.0] * 2
    after = [1.0] * 36 + [0.0] * 12 + [1.0] * 2
    found = clustered_change(before, after, range(50))
    assert (found.mean, found.n) == (pytest.approx(-0.2), 50)
    assert (found.low, found.high) == pytest.approx((-0.3405, -0.0569), abs=2e-3)


def test_nothing_that_changed_of_few_prompts_is_no_proof():
    """Eight prompts, all right before and after: sqrt(0.3244^2) each way, of Wilson's 1 - 0.3244 to 1."""
    found = clustered_change([1.0] * 8, [1.0] * 8, range(8))
    assert ends(found) == (-0.3244, 0.3244)
    # six that are refused, three of which weren't before
    found = clustered_change([1.0] * 3 + [0.0] * 3, [1.0] * 6, range(6))
    assert found.mean == 0.5
    assert -0.05 < found.low < 0.2
    assert 0.75 < found.high < 0.9


def test_the_change_of_pooled_claims():
    # before 2 of 4, after 3 of 4, on the same two captions
    found = share_change([1, 1], [2, 1], "ab", ([2, 2], [2, 2]))
    assert (found.mean, found.n) == (pytest.approx(0.25), 2)
    assert found.low == -1.0  # two captions tell next to nothing
    assert found.high == 1.0
    assert share_change([], [], []) is None


def test_differences_and_means_of_what_has_nothing_to_do_with_each_other():
    one, other = Estimate(0.8, 0.7, 0.85, 10), Estimate(0.5, 0.3, 0.6, 20)
    found = difference(one, other)
    # down: sqrt(0.1^2 + 0.1^2), up: sqrt(0.05^2 + 0.2^2)
    assert (found.mean, found.n) == (pytest.approx(0.3), 30)
    assert ends(found) == (0.3 - 0.141421, 0.3 + 0.206155)
    found = mean_of_parts([one, other])
    assert (0.65 - math.hypot(0.1, 0.2) / 2, 0.65 + math.hypot(0.05, 0.1) / 2) == ends(found)


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf, 0.0]])
def test_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        clustered_mean(values, range(2))


def test_refuses_what_does_not_go_together():
    with pytest.raises(ValueError, match="paired"):
        clustered_change([1.0], [1.0, 2.0], "a")
    with pytest.raises(ValueError, match="between 0 and their wholes"):
        clustered_share([2.0, 0.0], "ab")
    with pytest.raises(ValueError, match="sum to 0"):
        clustered_share([0.0], "a", [0.0])
    with pytest.raises(ValueError, match="don't go together"):
        clustered_mean([1.0, 2.0], "a")


def test_how_far_beyond_chance():
    """16 clusters that are right: 16 / root of 16; what is even has no say, and one cluster is one."""
    assert beyond_chance([0.5] * 16, range(16)) == pytest.approx(4.0)
    assert beyond_chance(
        [0.5] * 16 + [0.5, -0.5] * 50, [*range(16), *(100 + i // 2 for i in range(100))]
    ) == (pytest.approx(4.0))
    assert beyond_chance([0.5] * 16, [0] * 16) == pytest.approx(1.0)
    assert beyond_chance([0.5, -0.5], [7, 7]) == beyond_chance([], []) == 0.0


def test_the_area_under_the_curve_by_hand():
    values, wrong = np.array([3.0, 1.0, 2.0, 2.0]), np.array([True, False, True, False])
    # 3 > 1, 3 > 2, 2 > 1 and half of 2 = 2
    assert auroc(values, wrong, range(4)).mean == 0.875
    assert auroc(values, np.zeros(4, dtype=bool), range(4)) is None


def test_how_often_values_are_in_the_order_of_grades_by_hand():
    found = concordance([1.0, 2.0, 2.0, 4.0], [0.0, 0.5, 1.0, 0.5], range(4))
    # (0, 1), (0, 2), (0, 3) right, (1, 2) half, (3, 2) wrong
    assert (found.mean, found.n) == (0.7, 4)
    assert concordance([1.0, 2.0], [3.0, 3.0], range(2)) is None
    assert concordance([], [], []) is None


def test_of_two_grades_it_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    values, positive, clusters = rng.normal(size=60), rng.random(60) < 0.3, np.arange(60) // 3
    one, other = auroc(values, positive, clusters), concordance(values, positive.astype(float), clusters)
    assert (other.mean, other.low, other.high, other.n) == pytest.approx((one.mean, one.low, one.high, one.n))


# --- whether intervals hold what they promise, in cases that reports meet ---

RNG = np.random.default_rng(7)
TIMES = 400  # of a nominal 95 % the standard deviation of the share covered is then 1.1 points


def covered(draw, truth, measure):
    """The share of draws whose interval holds the truth."""
    drawn = [measure(*draw()) for _ in range(TIMES)]
    return sum(found.low - 1e-12 <= truth <= found.high + 1e-12 for found in drawn) / TIMES


def of_pictures(pictures, each, share, alike):
    """Right or wrong, with so many records a picture: `alike` is the correlation of two of a picture."""
    a, b = share * (1 - alike) / alike, (1 - share) * (1 - alike) / alike

    def draw():
        chance = RNG.beta(a, b, pictures)
        right = RNG.random((pictures, each)) < chance[:, None]
        return right.ravel(), np.repeat(np.arange(pictures), each)

    return draw


@pytest.mark.parametrize(
    ("pictures", "each", "share"),
    [(100, 4, 0.7), (50, 8, 0.7), (50, 8, 0.9), (100, 4, 0.95), (15, 4, 0.6), (12, 8, 0.8)],
)
@pytest.mark.parametrize("alike", [0.02, 0.4, 0.8])
def test_shares_over_pictures_are_covered(pictures, each, share, alike):
    """Drawn one by one, as if nothing hung together, 84 and 72 % would be covered of 4 and 8 records a picture."""
    hits = covered(of_pictures(pictures, each, share, alike), share, clustered_share)
    assert 0.925 <= hits <= 0.985


@pytest.mark.parametrize("share", [0.9, 0.95])
@pytest.mark.parametrize("count", [8, 20, 60])
def test_shares_of_few_near_1_are_covered(count, share):
    """Exactly, over all that may be drawn: of so few items a share's coverage jumps with the share itself, so it is
    the mean over shares near this one that must hold."""
    near = np.linspace(share - 0.04, share + 0.04, 81)
    lows, highs = np.array([wilson(right / count, count) for right in range(count + 1)]).T
    holds = (lows[None] <= near[:, None]) & (near[:, None] <= highs[None])
    hits = (holds * stats.binom.pmf(np.arange(count + 1)[None], count, near[:, None])).sum(1).mean()
    assert 0.93 <= hits <= 0.975


@pytest.mark.parametrize("count", [6, 8])
@pytest.mark.parametrize(("lost", "won", "kept"), [(0.1, 0.3, 0.3), (0.05, 0.4, 0.4), (0.25, 0.25, 0.25)])
def test_changes_of_six_to_eight_prompts_are_covered(count, lost, won, kept):
    def draw():
        which = RNG.choice(4, count, p=[lost, won, kept, 1 - lost - won - kept])
        return np.isin(which, (0, 2)), np.isin(which, (1, 2)), range(count)

    assert 0.925 <= covered(draw, won - lost, clustered_change) <= 0.985


@pytest.mark.parametrize("count", [6, 8, 40])
def test_changes_of_rewards_are_covered(count):
    def draw():
        prompt = RNG.normal(0, 2, count)
        return prompt + RNG.normal(0, 1, count), prompt + RNG.normal(0.5, 1.5, count), range(count)

    assert 0.925 <= covered(draw, 0.5, clustered_change) <= 0.98


@pytest.mark.parametrize("count", [45, 250])
def test_changes_of_true_claims_are_covered(count):
    """Two to four claims a caption, of pictures that are hard and easy; 0.54 of them true before, 0.76 after."""

    def draw():
        hard = RNG.choice([0.3, 0.6, 0.9], count)
        said = RNG.integers(2, 5, (2, count))
        true = RNG.binomial(said, [hard * 0.9, hard * 0.9 + 0.22 * np.minimum(1, (1 - hard) / 0.4)])
        return true[0], true[1], range(count), (said[0], said[1])

    gain = np.mean([min(1, (1 - hard) / 0.4) * 0.22 for hard in (0.3, 0.6, 0.9)])
    assert 0.925 <= covered(draw, gain, share_change) <= 0.98


@pytest.mark.parametrize(("pictures", "each"), [(100, 2), (40, 8)])
def test_what_the_image_gains_is_covered(pictures, each):
    def draw():
        blind, seeing = RNG.beta(4, 4, (pictures, 1)), RNG.beta(6, 2, (pictures, 1))
        shape = (pictures, each)
        names = np.repeat(np.arange(pictures), each)
        return (RNG.random(shape) < blind).ravel(), (RNG.random(shape) < seeing).ravel(), names

    assert 0.925 <= covered(draw, 0.25, clustered_change) <= 0.98


def test_the_area_of_gaps_over_pictures_is_covered():
    """Gaps of mean 0.5 and variance 1, half of it of the picture: the sum of two is above 0 in Phi(1 / sqrt(2))."""

    def draw():
        shared = np.repeat(RNG.normal(0, math.sqrt(0.5), 40), 4)
        return shared + RNG.normal(0.5, math.sqrt(0.5), 160), np.repeat(np.arange(40), 4)

    assert 0.925 <= covered(draw, stats.norm.cdf(1 / math.sqrt(2)), gap_auc) <= 0.98


def test_the_area_of_deviations_is_covered():
    """Wrong pairs' deviations of mean 1, right ones' of mean 0, both of variance 1: Phi(1 / sqrt(2))."""

    def draw():
        wrong = np.arange(80) < 20
        return RNG.normal(wrong * 1.0, 1), wrong, range(80)

    assert 0.925 <= covered(draw, stats.norm.cdf(1 / math.sqrt(2)), auroc) <= 0.98
