"""Whether a reward model knows how sure it may be: its gaps as probabilities, and its ensemble's deviation.

Under Bradley-Terry, sigma(gap / temperature) is the probability that the first answer is the better one. The confidence
of a pair is the larger of it and its complement, from 0.5 up; a calibrated head is right as often as it is confident.

The expected calibration error of Naeini et al. (2015) is above 0 of a calibrated head as well, the more so the fewer
pairs there are, and that of a resample is higher still. So it has no interval here; the error that has one is debiased.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.intervals import Estimate, Floats, auroc, clustered_mean, student
from mmrlhf.evaluation.reward.measures import mean, of
from mmrlhf.evaluation.reward.scoring import TRUE, Decided

BINS = 10  # of equal width, from a confidence of 0.5 to 1
DRAWS = 1000


def calibration(
    decided: Sequence[Decided],
    objectives: Sequence[str],
    seed: int,
    factors: dict[str, dict[str, float]],
    temperatures: dict[str, float],
) -> dict[str, dict[str, Any]]:
    """By objective: `error`, the root mean square distance between how sure and how often right, debiased, with its
    interval; `ece`, the expected calibration error, and what it would be on so many pairs if the head were calibrated
    (`by_chance`: mean and 95th percentile, drawn by the seed); the mean negative log-likelihood in nats (a coin:
    0.693), and the bins behind it.

    `factors` holds, by objective and modality, what a gap is multiplied by to be a logit (1 where there is none), the
    head's temperature among it; `temperatures` is only told (1 where there is none). A pair with equal rewards is half
    right here: its confidence is 0.5.
    """
    out = {}
    for objective in objectives:
        part = of(decided, objective)
        if not part:
            continue
        factor = factors.get(objective, {})
        gaps = np.array([c.gaps[TRUE] * factor.get(c.record.modality, 1.0) for c in part])
        right, confidence = (np.sign(gaps) + 1) / 2, _sigmoid(np.abs(gaps))
        clusters = [c.cluster for c in part]
        out[objective] = {
            "error": debiased_error(right, confidence, clusters),
            "ece": calibration_error(right, confidence),
            "by_chance": _by_chance(confidence, seed),
            "nll": clustered_mean(np.logaddexp(0, -gaps), clusters),
            "bins": bins(right, confidence),
            "temperature": temperatures.get(objective, 1.0),
        }
    return out


def debiased_error(right: Floats, confidence: Floats, clusters: Sequence[int]) -> Estimate | None:
    """The root of sum over bins of (n / N) (share right - mean confidence)^2, each square taken from pairs of
    comparisons of different clusters: ((sum of e)^2 - sum over clusters of (their sum of e)^2) / (n^2 - sum of squared
    sizes), where e is right - confidence. So the mean square of a calibrated head is 0 in expectation, on however few
    pairs (J. Broecker, Climate Dynamics 39, 2012; A. Kumar et al., NeurIPS 2019); below 0 the error is 0. A bin of one
    cluster tells nothing and counts as 0. The interval is that of the mean square, by the jackknife over clusters and
    t; NaN of two clusters, where nothing is left to compare without one of them. None of one cluster.
    """
    _, place_N = np.unique(np.asarray(clusters, dtype=np.int64), return_inverse=True)
    count = int(place_N.max()) + 1
    if count < 2:
        return None
    cell_N = place_N * BINS + _bin(confidence)
    e_GB, n_GB = (
        np.bincount(cell_N, weight_N, count * BINS).reshape(count, BINS)
        for weight_N in (right - confidence, np.ones(len(right)))
    )
    sums = [part_GB.sum(0) for part_GB in (e_GB, e_GB**2, n_GB, n_GB**2)]
    square = float(_mean_square(*sums))
    if count == 2:
        return Estimate(math.sqrt(max(square, 0.0)), math.nan, math.nan, len(right))
    left_out = (
        part_B - part_GB for part_B, part_GB in zip(sums, (e_GB, e_GB**2, n_GB, n_GB**2), strict=True)
    )
    without_G = _mean_square(*left_out)
    spread = math.sqrt((count - 1) / count * float(((without_G - without_G.mean()) ** 2).sum()))
    half = student(count - 1) * spread
    low, mean, high = (math.sqrt(max(value, 0.0)) for value in (square - half, square, square + half))
    return Estimate(mean, low, high, len(right))


def _mean_square(sum_B: Floats, squares_B: Floats, n_B: Floats, sizes_B: Floats) -> Floats:
    """The debiased mean square over bins, the last axis: from the sums of errors, of clusters' squared sums, of pairs
    and of clusters' squared sizes."""
    pairs_B = n_B**2 - sizes_B
    mean_B = np.divide(sum_B**2 - squares_B, pairs_B, out=np.zeros_like(sum_B), where=pairs_B > 0)
    return np.asarray((n_B * mean_B).sum(-1) / np.maximum(n_B.sum(-1), 1.0))


def calibration_error(right: Floats, confidence: Floats) -> float:
    """sum over bins of (n / N) |share right - mean confidence|."""
    excess = np.bincount(_bin(confidence), weights=right - confidence, minlength=BINS)
    return float(np.abs(excess).sum() / len(right))


def bins(right: Floats, confidence: Floats) -> list[dict[str, Any]]:
    """The bins that hold a pair: ends, number of pairs, mean confidence, share right."""
    where = _bin(confidence)
    width = 0.5 / BINS
    return [
        {
            "low": 0.5 + number * width,
            "high": 0.5 + (number + 1) * width,
            "n": int(inside.sum()),
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
        }
        for number in range(BINS)
        if (inside := where == number).any()
    ]


def _bin(confidence: Floats) -> NDArray[np.int64]:
    return np.minimum(((confidence - 0.5) * 2 * BINS).astype(np.int64), BINS - 1)


def _by_chance(confidence: Floats, seed: int) -> dict[str, float]:
    """The error of a head that is right exactly as often as it says, which isn't 0 on so few pairs."""
    rng = np.random.default_rng(seed)
    drawn = [
        calibration_error((rng.random(len(confidence)) < confidence).astype(np.float64), confidence)
        for _ in range(DRAWS)
    ]
    return {"mean": float(np.mean(drawn)), "high": float(np.quantile(drawn, 0.95))}


def _sigmoid(values: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -values))


def deviations(decided: Sequence[Decided], objectives: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By objective that tells a deviation above 0: its mean over the pairs that are right, over those that are wrong,
    and the area under the ROC curve (`auroc`): how often a wrong pair's is larger than a right one's, 0.5 by chance."""
    out: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        part = of(decided, objective)
        values = np.array([c.deviation for c in part])
        wrong = np.array([not c.right for c in part], dtype=np.bool_)
        if not (values > 0).any():
            continue
        out[objective] = {
            "right": mean([c for c in part if c.right], lambda c: c.deviation),
            "wrong": mean([c for c in part if not c.right], lambda c: c.deviation),
            "auroc": auroc(values, wrong, [c.cluster for c in part]),
        }
    return out
