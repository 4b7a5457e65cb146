"""How sure a reward difference is: a temperature for each head, and how far its probabilities are from the truth.

A head says that one response is better than another with the probability sigma((r_1 - r_2) / T). In training T is 1;
fitted on pairs that nothing was trained on, it takes back the confidence that comes from knowing the training pairs
(Guo et al. 2017, "On Calibration of Modern Neural Networks"). It changes no order and no reward, only what a difference
means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 10
SHARPEST, BLUNTEST = 1e-3, 1e3
HALVINGS = 60
LEAST_PAIRS = 20  # held-out pairs that a temperature needs


@dataclass(frozen=True)
class Calibration:
    """What held-out pairs say of a head. Both errors are of pairs that the temperature at work wasn't fitted on."""

    temperature: float
    pairs: int  # decided ones
    error_before: float  # expected calibration error with a temperature of 1
    error_after: float


def enough_to_calibrate(groups: Sequence[int]) -> bool:
    """Whether held-out pairs, each of a group of those that hang together, tell a temperature."""
    return len(groups) >= LEAST_PAIRS and len(set(groups)) > 1


def calibrate(gap_N: Tensor, groups: Sequence[int]) -> Calibration:
    """From the raw rewards of better responses minus those of worse ones, of N held-out pairs without ties. Pairs of
    one group (N numbers) hang together, such as those of one picture.

    The error after is by two folds, each with the temperature of the other; a group is in one of them, so that neither
    knows the other's pictures. The temperature that is kept is of all pairs.

    Raises:
        ValueError: there are fewer than two groups.
    """
    gap_N = gap_N.double()
    first = torch.tensor(_first_fold(groups))
    scaled = torch.empty_like(gap_N)
    for fold in (first, ~first):
        scaled[fold] = gap_N[fold] / fit_temperature(gap_N[~fold])
    return Calibration(
        temperature=fit_temperature(gap_N),
        pairs=len(gap_N),
        error_before=expected_calibration_error(gap_N),
        error_after=expected_calibration_error(scaled),
    )


def _first_fold(groups: Sequence[int]) -> list[bool]:
    """Which pairs are in the first of two folds: group by group, the largest first, each goes where fewer are."""
    counts = Counter(groups)
    if len(counts) < 2:
        raise ValueError("a temperature needs pairs of two groups or more")
    sizes, fold_of = [0, 0], dict[int, int]()
    for group, size in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        fold_of[group] = sizes.index(min(sizes))
        sizes[fold_of[group]] += size
    return [fold_of[group] == 0 for group in groups]


def fit_temperature(gap_N: Tensor) -> float:
    """The T of the highest likelihood of sigma(gap / T), by bisection of its slope in 1 / T, which only falls.

    The better response counts as better with probability (N + 1) / (N + 2) (Platt 1999), so that a head which is always
    right gets a finite temperature. One that is no better than chance gets the bluntest.
    """
    gap_N = gap_N.double()
    sure = (len(gap_N) + 1) / (len(gap_N) + 2)
    low, high = 1 / BLUNTEST, 1 / SHARPEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if ((sure - torch.sigmoid(middle * gap_N)) * gap_N).sum() > 0:
            low = middle
        else:
            high = middle
    return 1 / (low * high) ** 0.5


def expected_calibration_error(gap_N: Tensor, bins: int = BINS) -> float:
    """The mean difference, over pairs, of confidence and accuracy in bins of equal width between 0.5 and 1 (Naeini et
    al. 2015). Confidence is max(p, 1 - p) with p = sigma(gap); a pair with equal rewards is half right."""
    confidence_N = torch.sigmoid(gap_N.double().abs())
    right_N = (gap_N > 0).double() + 0.5 * (gap_N == 0).double()
    bin_N = ((confidence_N - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    sums = torch.zeros(bins, dtype=torch.float64).index_add(0, bin_N, confidence_N - right_N)
    return float(sums.abs().sum() / len(gap_N))
