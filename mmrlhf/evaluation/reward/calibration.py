"""Whether a reward model knows how sure it may be: its gaps as probabilities, and its ensemble's deviation.

Under Bradley-Terry, sigma(gap / temperature) is the probability that the first answer is the better one. The confidence
of a pair is the larger of it and its complement, from 0.5 up; a calibrated head is right as often as it is confident.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.intervals import Floats, bootstrap
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
    """By objective: the expected calibration error (Naeini et al. 2015) with its interval, what it would be on so many
    pairs if the head were calibrated (`by_chance`: mean and 95th percentile), the mean negative log-likelihood in nats
    (a coin: 0.693), and the bins behind it.

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
            "ece": bootstrap(lambda i, r=right, c=confidence: calibration_error(r[i], c[i]), clusters, seed),  # type: ignore[misc]
            "by_chance": _by_chance(confidence, seed),
            "nll": bootstrap(lambda i, g=gaps: float(np.logaddexp(0, -g[i]).mean()), clusters, seed),  # type: ignore[misc]
            "bins": bins(right, confidence),
            "temperature": temperatures.get(objective, 1.0),
        }
    return out


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


def deviations(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """By objective that tells a deviation above 0: its mean over the pairs that are right, over those that are wrong,
    and the area under the ROC curve (`auroc`): how often a wrong pair's is larger than a right one's, 0.5 by chance."""
    out: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        part = of(decided, objective)
        values = np.array([c.deviation for c in part])
        wrong = np.array([not c.right for c in part], dtype=np.bool_)
        if not (values > 0).any():
            continue
        both = wrong.any() and not wrong.all()
        out[objective] = {
            "right": mean([c for c in part if c.right], seed, lambda c: c.deviation),
            "wrong": mean([c for c in part if not c.right], seed, lambda c: c.deviation),
            "auroc": bootstrap(
                lambda i, v=values, w=wrong: auroc(v[i], w[i]),  # type: ignore[misc]
                [c.cluster for c in part],
                seed,
            )
            if both
            else None,
        }
    return out


def auroc(values: Floats, positive: NDArray[np.bool_]) -> float:
    """How often a positive's value lies above a negative's, ties half; NaN where there is only one of both kinds."""
    above, below = values[positive], np.sort(values[~positive])
    if not len(above) or not len(below):
        return math.nan
    beaten = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(beaten.sum() / (2 * len(above) * len(below)))
