"""Means, shares and their changes with 95 % intervals, also where items hang together, are few, or are nearly alike.

Items of one cluster (of one picture, prompt or flip pair) aren't independent. Variances are taken over clusters, each
of whose squared residuals is divided by 1 - its part of all items (the CR2 estimator of R. Bell and D. McCaffrey,
Survey Methodology 28, 2002), with a t distribution of the degrees of freedom that they derive: G - 1 of G clusters of
one size, fewer where a few clusters hold most of the items.

- A mean of anything: mean +- t sqrt(variance).
- A share, of what lies between 0 and 1: the interval of E. Wilson (1927) of as many items as would be independent
  with this variance (E. Korn and B. Graubard, Survey Methodology 24, 1998). It stays within 0 and 1, and has a width
  also where all are right: there it is Wilson's of as many items as there are clusters.
- A difference of shares: from the intervals of both and the correlation between them (R. Newcombe, Statistics in
  Medicine 17, 1998, method 10).

The intervals tell how much a number would vary with other prompts of the same kind. They know nothing of what another
training seed would have given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = Sequence[Hashable] | Ints  # of each item its cluster's name
LEVEL = 0.95
Z_95 = 1.959964  # deviations of a normal distribution that hold its middle 95 %


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` items and the ends of its interval; NaN where one cluster alone was measured, so that nobody
    knows how far others would differ."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class _Clusters:
    """Which cluster each of N items is in, and the part of all items that each of G clusters holds."""

    place_N: Ints
    part_G: Floats

    @staticmethod
    def of(names: Names, weight_N: Floats) -> _Clusters:
        """Clusters by name, in the order of their first items."""
        known: dict[Hashable, int] = {}
        listed = names.tolist() if isinstance(names, np.ndarray) else names
        place_N = np.array([known.setdefault(name, len(known)) for name in listed], dtype=np.int64)
        if len(place_N) != len(weight_N):
            raise ValueError(f"{len(weight_N)} items and {len(place_N)} names of clusters don't go together")
        return _Clusters(place_N, np.bincount(place_N, weight_N, len(known)) / weight_N.sum())

    @property
    def count(self) -> int:
        return len(self.part_G)

    @property
    def single(self) -> bool:
        """Whether one cluster holds all items."""
        return float(self.part_G.max()) > 1 - 1e-12

    @property
    def worth(self) -> float:
        """How many clusters of one size these are worth: 1 / sum of squared parts (L. Kish, Survey Sampling, 1965). A
        large cluster beside nine of one item is about one."""
        return float(1 / (self.part_G**2).sum())

    def sums(self, influence_N: Floats) -> Floats:
        """The sum over each cluster, (G,), as CR2 corrects it; their squares sum to the variance."""
        return np.bincount(self.place_N, influence_N, self.count) / np.sqrt(1 - self.part_G)

    def quantile(self, sum_G: Floats) -> float:
        """Of the t distribution with Bell and McCaffrey's degrees of freedom, for items of one variance; or with fewer,
        where the fourth powers of the sums tell that the variance is known less well than of normal ones, as where few
        clusters hold all that is wrong: 2 / (sum of fourth powers / (sum of squares)^2 - 1 / G)."""
        square_G = self.part_G**2
        ratio_G = square_G / (1 - self.part_G)
        freedom = 1 / (square_G.sum() + ratio_G.sum() ** 2 - (ratio_G**2).sum())
        square = float((sum_G**2).sum())
        excess = float((sum_G**4).sum()) / square**2 - 1 / self.count if square > 0 else 0.0
        return student(min(freedom, 2 / excess) if excess > 1e-9 else freedom)


def clustered_mean(values: Sequence[float] | Floats, clusters: Names) -> Estimate | None:
    """The mean of any numbers, None without any; `n` counts values.

    Raises:
        ValueError: a value isn't finite.
    """
    if not len(values):
        return None
    value_N = _checked(values)
    of = _Clusters.of(clusters, np.ones(len(value_N)))
    mean = float(value_N.mean())
    if of.single:
        return Estimate(mean, math.nan, math.nan, len(value_N))
    sum_G = of.sums((value_N - mean) / len(value_N))
    half = of.quantile(sum_G) * float(np.linalg.norm(sum_G))
    return Estimate(mean, mean - half, mean + half, len(value_N))


def clustered_share(
    values: Sequence[float] | Floats, clusters: Names, wholes: Sequence[float] | Floats | None = None
) -> Estimate | None:
    """The mean of values from 0 to 1, such as right or wrong, None without any; `n` counts values. With `wholes`, sum
    of values / sum of wholes, each value from 0 to its whole, such as true claims of all claims.

    Raises:
        ValueError: a value isn't finite or not between 0 and its whole, or the wholes sum to 0.
    """
    return _Share.of_values(values, clusters, wholes).estimate if len(values) else None


def share_right(right: Sequence[bool]) -> Estimate | None:
    """`clustered_share` of items that each stand alone."""
    return clustered_share(right, range(len(right)))


def clustered_estimate(values: Sequence[float] | Floats, clusters: Names) -> Estimate | None:
    """`clustered_share` where every value is 0 or 1, else `clustered_mean`; None of nothing."""
    return (clustered_share if _is_binary(values) else clustered_mean)(values, clusters)


def clustered_change(
    before: Sequence[float] | Floats, after: Sequence[float] | Floats, clusters: Names
) -> Estimate | None:
    """The mean of after - before over the same items, in the same order; None of nothing. Where every value is 0 or 1
    it is `share_change`, so that it has a width also where nothing changed.

    Raises:
        ValueError: different numbers of items, or one that isn't finite.
    """
    _check_paired(before, after)
    if _is_binary(before) and _is_binary(after):
        return share_change(before, after, clusters)
    return clustered_mean(_checked(after) - _checked(before), clusters) if len(before) else None


def share_change(
    before: Sequence[float] | Floats,
    after: Sequence[float] | Floats,
    clusters: Names,
    wholes: tuple[Sequence[float] | Floats, Sequence[float] | Floats] | None = None,
) -> Estimate | None:
    """The share after minus the share before, each of values from 0 to 1 or to their `wholes` (before, after), over the
    same items in the same order; None of nothing.

    Raises:
        ValueError: different numbers of items, or as `clustered_share` does.
    """
    _check_paired(before, after)
    if not len(before):
        return None
    one = _Share.of_values(before, clusters, wholes[0] if wholes else None)
    other = _Share.of_values(after, clusters, wholes[1] if wholes else None)
    if not one.binary or not other.binary:
        between = _graded_change(one, other)
        if between is not None:
            return between
    found = difference(other.estimate, one.estimate, _correlation(one, other))
    return dataclasses.replace(found, n=len(before))


def difference(one: Estimate, other: Estimate, correlation: float = 0.0) -> Estimate:
    """One estimate minus another one, of other items; `correlation` is that of their errors."""
    mean = one.mean - other.mean
    sides = [(one.mean - one.low, other.high - other.mean), (one.high - one.mean, other.mean - other.low)]
    down, up = (math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0)) for a, b in sides)
    return Estimate(mean, mean - down, mean + up, one.n + other.n)


def mean_of_parts(parts: Sequence[Estimate]) -> Estimate:
    """The mean of estimates that have nothing to do with each other, each counted alike."""
    count = len(parts)
    mean = sum(part.mean for part in parts) / count
    down = math.sqrt(sum((part.mean - part.low) ** 2 for part in parts)) / count
    up = math.sqrt(sum((part.high - part.mean) ** 2 for part in parts)) / count
    return Estimate(mean, mean - down, mean + up, sum(part.n for part in parts))


def gap_auc(gaps: Sequence[float] | Floats, clusters: Names) -> Estimate:
    """How well a score ranks pairs whose gap (of the better side minus the worse one) is known, as the area under the
    ROC curve over every pair in both orders: P(a gap is above another's opposite), half of it where they are equal. 1:
    every gap is above 0; 0.5: gaps above and below 0 are alike in number and size.

    Raises:
        ValueError: no gap, or one that isn't finite.
    """
    gap_N = _checked(gaps)
    above_N = _share_below(gap_N, np.sort(-gap_N))
    area = float(above_N.mean())
    of = _Clusters.of(clusters, np.ones(len(gap_N)))
    influence_N = 2 * (above_N - area) / len(gap_N)  # a gap is both one of a pair and the other's opposite
    return _Share.from_influence(area, influence_N, of, len(gap_N), len(gap_N)).estimate


def auroc(values: Sequence[float] | Floats, positive: NDArray[np.bool_], clusters: Names) -> Estimate | None:
    """How often a positive's value lies above a negative's, ties half; None where there is only one of both kinds. Its
    variance is DeLong's (1988), taken over clusters (N. Obuchowski, Biometrics 53, 1997)."""
    value_N = _checked(values)
    count, rest = int(positive.sum()), int((~positive).sum())
    if not count or not rest:
        return None
    beaten = _share_below(value_N[positive], np.sort(value_N[~positive]))
    beats = 1 - _share_below(value_N[~positive], np.sort(value_N[positive]))
    area = float(beaten.mean())
    influence_N = np.zeros(len(value_N))
    influence_N[positive], influence_N[~positive] = (beaten - area) / count, (beats - area) / rest
    of = _Clusters.of(clusters, np.where(positive, 0.5 / count, 0.5 / rest))
    return _Share.from_influence(area, influence_N, of, min(count, rest), len(value_N)).estimate


def concordance(
    values: Sequence[float] | Floats, grades: Sequence[float] | Floats, clusters: Names
) -> Estimate | None:
    """How often, of two items of unequal grades, the one of the higher grade has the higher value, ties half; None
    where all grades are equal. Of two grades it is `auroc`. Takes time that grows with the square of the items."""
    value_N, grade_N = np.asarray(values, dtype=np.float64), np.asarray(grades, dtype=np.float64)
    levels, count_L = np.unique(grade_N, return_counts=True)
    if len(levels) < 2:
        return None
    value_N, grade_N = _checked(value_N), _checked(grade_N)
    right_N, compared_N = np.zeros(len(value_N)), np.zeros(len(value_N))
    for index, (value, grade) in enumerate(zip(value_N, grade_N, strict=True)):
        order_N = np.sign(grade - grade_N)
        compared_N[index] = np.count_nonzero(order_N)
        right_N[index] = (compared_N[index] + float(order_N @ np.sign(value - value_N))) / 2
    share = float(right_N.sum() / compared_N.sum())
    influence_N = 2 * (right_N - share * compared_N) / compared_N.sum()
    of = _Clusters.of(clusters, compared_N)
    apart = len(value_N) - int(count_L.max())
    return _Share.from_influence(share, influence_N, of, apart, len(value_N)).estimate


def beyond_chance(values: Sequence[float] | Floats, clusters: Sequence[int] | Ints) -> float:
    """How far the sum of the values is from 0, in standard deviations of what it would be if each cluster's sum were as
    likely its opposite: the sum over clusters by the root of their squares' sum. Clusters that sum to 0 have no say.

    Above 1.96 by chance in about 2.5 % of cases, also of few clusters: with n it can't be above the root of n, and as
    the spread isn't taken around the mean, a few that agree by luck don't seem sure.
    """
    _, place = np.unique(np.asarray(clusters, dtype=np.int64), return_inverse=True)
    sums = np.bincount(place.reshape(-1), np.asarray(values, dtype=np.float64))
    spread = float(np.sqrt((sums**2).sum()))
    return float(sums.sum()) / spread if spread > 0 else 0.0


def student(freedom: float) -> float:
    """How many standard errors hold the middle 95 % of a t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def wilson(share: float, count: float, z: float = Z_95) -> tuple[float, float]:
    """The ends of Wilson's interval of a share of so many items."""
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    # what rounding leaves of 0 and 1
    return (0.0 if share == 0 else middle - half), (1.0 if share == 1 else middle + half)


@dataclass(frozen=True)
class _Share:
    """A share with its interval, and what it takes to compare it with another one of the same clusters."""

    estimate: Estimate
    of: _Clusters
    sum_G: Floats | None  # their squares sum to the variance; None of one cluster
    items: float  # what the variance would be of as many that are independent: share (1 - share) / items
    binary: bool  # every item is right or wrong, nothing between

    @staticmethod
    def of_values(
        values: Sequence[float] | Floats, clusters: Names, wholes: Sequence[float] | Floats | None
    ) -> _Share:
        """sum(values) / sum(wholes)."""
        value_N = _checked(values)
        whole_N = np.ones(len(value_N)) if wholes is None else _checked(wholes)
        if len(whole_N) != len(value_N) or (value_N < 0).any() or (value_N > whole_N).any():
            raise ValueError("a share needs values between 0 and their wholes")
        if not whole_N.sum():
            raise ValueError("a share needs wholes that don't sum to 0")
        total = float(whole_N.sum())
        share = float(value_N.sum()) / total
        of = _Clusters.of(clusters, whole_N)
        binary = bool((whole_N == 1).all()) and _is_binary(value_N)
        return _Share.from_influence(
            share, (value_N - share * whole_N) / total, of, total, len(value_N), binary
        )

    @staticmethod
    def from_influence(
        share: float, influence_N: Floats, of: _Clusters, items: float, n: int, binary: bool = False
    ) -> _Share:
        """A share whose error is a sum of influences."""
        if of.single:
            return _Share(Estimate(share, *wilson(share, 1), n), of, None, items, binary)
        sum_G = of.sums(influence_N)
        if not 1e-12 < share < 1 - 1e-12:
            low, high = wilson(float(round(share)), min(of.worth, items))
        elif binary and of.count == n:  # the share alone tells the variance
            low, high = wilson(share, items)
        else:
            even = share * (1 - share) / items
            variance = _believed(float(sum_G @ sum_G), even, of.count)
            low, high = wilson(share, items * even / variance, of.quantile(sum_G))
        return _Share(Estimate(share, low, high, n), of, sum_G, items, binary)


def _believed(variance: float, even: float, clusters: int) -> float:
    """The variance; where it is below that of independent items, it is believed only so far as there are clusters to
    tell it: as if in one more of them the items were independent."""
    return max(variance, (clusters * variance + even) / (clusters + 1))


def _graded_change(one: _Share, other: _Share) -> Estimate | None:
    """The change of shares of which some items are right in part: by t, as these are spread well enough, but where one
    of both is 0 or 1 (None)."""
    before, after = one.estimate, other.estimate
    if one.sum_G is None or other.sum_G is None or {before.mean, after.mean} & {0.0, 1.0}:
        return None
    sum_G = other.sum_G - one.sum_G
    even = sum(s.estimate.mean * (1 - s.estimate.mean) / s.items for s in (one, other))
    variance = _believed(float(sum_G @ sum_G), even, one.of.count)
    mean, half = after.mean - before.mean, one.of.quantile(sum_G) * math.sqrt(variance)
    return Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0), after.n)


def _correlation(one: _Share, other: _Share) -> float:
    """Between the errors of two shares of the same clusters; where it is above 0, less Newcombe's correction for the
    few clusters that tell it."""
    if one.sum_G is None or other.sum_G is None:
        return 0.0
    size = float(np.linalg.norm(one.sum_G) * np.linalg.norm(other.sum_G))
    if size == 0:
        return 0.0
    found = float(one.sum_G @ other.sum_G) / size
    spread = math.prod(math.sqrt(s.estimate.mean * (1 - s.estimate.mean)) for s in (one, other))
    return found if found <= 0 else max(found - 1 / (2 * one.of.count * spread), 0.0)


def _share_below(values: Floats, ordered: Floats) -> Floats:
    """Of each value, the share of the ordered ones that are below it, equal ones half."""
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (
        2 * len(ordered)
    )


def _is_binary(values: Sequence[float] | Floats) -> bool:
    return bool(np.isin(np.asarray(values, dtype=np.float64), (0.0, 1.0)).all())


def _check_paired(before: Sequence[float] | Floats, after: Sequence[float] | Floats) -> None:
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after can't be paired")


def _checked(values: Sequence[float] | Floats) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError("an interval needs a list of at least one number, all of them finite")
    return array
