"""Means with seeded bootstrap intervals (the percentile method of Efron 1979: resample the prompts, keep the
middle). Of a share that is 0 or 1 every resample is alike; its interval is Wilson's (1927).

The interval tells how much the number would vary with other prompts of the same kind. It knows nothing of
what another training seed would have given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Z_95 = 1.959964  # deviations of a normal distribution that hold its middle 95 %
FEW = 10  # clusters: of fewer the bootstrap of a share is too narrow
BLOCK = 2**21  # drawn items held at a time


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` items and the ends of its interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_with_interval(
    values: Sequence[float], seed: int = 0, level: float = 0.95, rounds: int = 1000
) -> Estimate:
    """The mean of the values with its interval.

    Raises:
        ValueError: no value, or one that isn't finite.
    """
    return ratio_with_interval(values, np.ones(len(values)), seed, level, rounds)


def estimate(values: Sequence[float], seed: int = 0) -> Estimate | None:
    """`mean_with_interval`, or None where nothing was measured."""
    return mean_with_interval(values, seed) if len(values) else None


def clustered_mean(
    values: Sequence[float] | Floats, clusters: Sequence[Hashable], seed: int = 0, rounds: int = 1000
) -> Estimate | None:
    """The mean of the values, None without any. Those of one cluster (of one record, of one flip pair) are drawn
    together, since they aren't independent; `n` counts values. Of one cluster alone the interval has no width: how far
    others would differ can't be told.

    Raises:
        ValueError: a value isn't finite.
    """
    if not len(values):
        return None
    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        part = sums.setdefault(cluster, [0.0, 0.0])
        part[0] += float(value)
        part[1] += 1.0
    parts, wholes = zip(*sums.values(), strict=True)
    return dataclasses.replace(ratio_with_interval(parts, wholes, seed, rounds=rounds), n=len(values))


def clustered_share(
    right: Sequence[bool], clusters: Sequence[Hashable], seed: int = 0, rounds: int = 1000
) -> Estimate | None:
    """The share that is right, None of nothing; drawn by clusters, as in `clustered_mean`.

    Where all or none are right, or there is one cluster alone, the bootstrap would give an interval without any width,
    however few there are. There it is Wilson's for as many items as there are clusters: n / (n + z^2) to 1 where all of
    n are right.
    """
    found = clustered_mean([float(r) for r in right], clusters, seed, rounds)
    count = len(set(clusters))
    if found is None or (0 < found.mean < 1 and count > 1):
        return found
    low, high = wilson(found.mean, count)
    return dataclasses.replace(found, low=low, high=high)


def wilson(share: float, count: float) -> tuple[float, float]:
    """The ends of Wilson's interval of a share of so many items."""
    middle = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 * np.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) / (1 + Z_95**2 / count)
    # what rounding leaves of 0 and 1
    return (0.0 if share == 0 else float(middle - half)), (1.0 if share == 1 else float(middle + half))


def widened(found: Estimate, clusters: Sequence[int] | Ints) -> Estimate:
    """An estimate of what lies between 0 and 1, its interval no narrower than Wilson's of as many items as there are
    clusters, where these are fewer than `FEW`: of so few the bootstrap is too narrow, and of one it has no width.

    Clusters of different sizes count as (sum of sizes)^2 / sum of squares (L. Kish, Survey Sampling, 1965): a large one
    beside nine of one item is about one.
    """
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    count = float(sizes.sum()) ** 2 / float((sizes.astype(np.float64) ** 2).sum())
    if count >= FEW:
        return found
    low, high = wilson(found.mean, count)
    return dataclasses.replace(found, low=min(low, found.low), high=max(high, found.high))


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


def share_right(right: Sequence[bool], seed: int = 0) -> Estimate | None:
    """`clustered_share` of items that each stand alone."""
    return clustered_share(right, range(len(right)), seed)


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    clusters: Sequence[Hashable],
    seed: int = 0,
    level: float = 0.95,
    rounds: int = 1000,
) -> Estimate:
    """Any statistic of a list of items, given by their indices: of all of them, with its interval over resampled
    clusters. A resample for which it is NaN is left out.

    Raises:
        ValueError: no item.
    """
    if not len(clusters):
        raise ValueError("an interval needs at least one item")
    members: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(index)
    groups = [np.array(group, dtype=np.int64) for group in members.values()]
    drawn = np.array(
        [
            statistic(np.concatenate([groups[i] for i in chosen]))
            for block in _resamples(len(groups), seed, rounds)
            for chosen in block
        ],
        dtype=np.float64,
    )
    return _interval(statistic(np.arange(len(clusters))), drawn, level, len(clusters))


def gap_auc(
    gaps: Sequence[float] | Floats, clusters: Sequence[Hashable] | Ints, seed: int = 0, rounds: int = 1000
) -> Estimate:
    """How well a score ranks pairs whose gap (of the better side minus the worse one) is known, as the area under the
    ROC curve over every pair in both orders: P(a gap is above another's opposite), half of it where they are equal. 1:
    every gap is above 0; 0.5: gaps above and below 0 are alike in number and size. Drawn by clusters.

    Raises:
        ValueError: no gap, or one that isn't finite.
    """
    values = _checked(gaps)
    _, place = np.unique(np.concatenate([values, -values]), return_inverse=True)
    above, below = place[: len(values)], place[len(values) :]
    size = int(place.max()) + 1
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(cluster.max()) + 1

    def area(weights: Floats) -> float:
        positive = np.bincount(above, weights, minlength=size)
        negative = np.bincount(below, weights, minlength=size)
        lower = np.cumsum(negative) - negative
        return float(positive @ (lower + negative / 2) / weights.sum() ** 2)

    drawn = [
        area(np.bincount(chosen, minlength=count)[cluster].astype(np.float64))
        for block in _resamples(count, seed, rounds)
        for chosen in block
    ]
    return _interval(area(np.ones(len(values))), np.array(drawn), 0.95, len(values))


def ratio_with_interval(
    parts: Sequence[float] | Floats,
    wholes: Sequence[float] | Floats,
    seed: int = 0,
    level: float = 0.95,
    rounds: int = 1000,
) -> Estimate:
    """sum(parts) / sum(wholes), such as true claims of all claims, with the interval over resampled items.

    Raises:
        ValueError: no item, one that isn't finite, or wholes that sum to 0.
    """
    top, bottom = _checked(parts), _checked(wholes)
    drawn = _ratios(top, bottom, _resamples(len(top), seed, rounds))
    return _interval(float(top.sum() / bottom.sum()), drawn, level, len(top))


def paired_difference(
    before: Sequence[float], after: Sequence[float], seed: int = 0, level: float = 0.95, rounds: int = 1000
) -> Estimate:
    """The mean of after - before over the same items, in the same order.

    Raises:
        ValueError: no item, different numbers of them, or one that isn't finite.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} values before and {len(after)} after can't be paired")
    return mean_with_interval(_checked(after) - _checked(before), seed, level, rounds)  # type: ignore[arg-type]


def paired_ratio_difference(
    before: tuple[Sequence[float], Sequence[float]],
    after: tuple[Sequence[float], Sequence[float]],
    seed: int = 0,
    level: float = 0.95,
    rounds: int = 1000,
) -> Estimate:
    """The ratio after minus the ratio before, each of (parts, wholes), resampling the items that both share.

    Raises:
        ValueError: no item, different numbers of them, one that isn't finite, or wholes that sum to 0.
    """
    arrays = [_checked(values) for values in (*before, *after)]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(f"{len(arrays[0])} items before and {len(arrays[2])} after can't be paired")
    before_drawn, after_drawn = (
        _ratios(arrays[i], arrays[i + 1], _resamples(len(arrays[0]), seed, rounds)) for i in (0, 2)
    )
    drawn = after_drawn - before_drawn
    mean = float(arrays[2].sum() / arrays[3].sum() - arrays[0].sum() / arrays[1].sum())
    return _interval(mean, drawn, level, len(arrays[0]))


def _checked(values: Sequence[float] | Floats) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ValueError("an interval needs a list of at least one number, all of them finite")
    return array


def _resamples(count: int, seed: int, rounds: int) -> Iterator[NDArray[np.int64]]:
    """The items of each resample, in blocks of rounds: of many items, all rounds at once would fill the memory."""
    rng = np.random.default_rng(seed)
    step = max(1, BLOCK // count)
    for start in range(0, rounds, step):
        yield rng.integers(0, count, size=(min(step, rounds - start), count))


def _ratios(parts: Floats, wholes: Floats, resamples: Iterator[NDArray[np.int64]]) -> Floats:
    """The ratio of each resample; NaN where its wholes sum to 0."""
    if wholes.sum() == 0:
        raise ValueError("a ratio needs wholes that don't sum to 0")
    drawn = []
    for index in resamples:
        bottom = wholes[index].sum(1)
        drawn.append(
            np.divide(parts[index].sum(1), bottom, out=np.full(len(index), np.nan), where=bottom != 0)
        )
    return np.concatenate(drawn)


def _interval(mean: float, drawn: Floats, level: float, count: int) -> Estimate:
    known = drawn[np.isfinite(drawn)]  # a resample without any claim has no share of true ones
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (mean, mean)
    return Estimate(mean, float(low), float(high), count)
