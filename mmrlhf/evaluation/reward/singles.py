"""What a reward model gets right of responses that were judged one by one: by yes or no, or by a rating.

Yes or no: `yes_no_auroc`, how often a response judged yes has the higher reward than one judged no, of any prompts; and
`yes_no_accuracy`, how often the head's own sign, whose 0 training set between yes and no, says the same as the judge.
Ratings: `rated_pairs`, how often of two responses to one prompt the better rated one has the higher reward; and
`rating_order`, the same of any two responses, of any prompts, which is all there is where each prompt has one rating.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.intervals import Estimate, auroc, clustered_share, concordance
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.evaluation.reward.measures import By
from mmrlhf.evaluation.reward.scoring import Scored, Scores

YES_NO = ("yes_no_auroc", "yes_no_accuracy")
RATED = ("rated_pairs", "rating_order")


@dataclass(frozen=True)
class _Single:
    """A response, what its judge made of it, as a share of the scale, and what the head did."""

    value: float
    reward: float
    zero: float  # the reward at which the head's own sign changes; NaN where it has none
    cluster: int


def single_measures(scores: Scores) -> dict[str, dict[str, By]]:
    """By objective and measure (`YES_NO`, `RATED`), modality and condition; without those that there is nothing for."""
    out: dict[str, dict[str, By]] = {}
    for objective in scores.objectives:
        for modality in ("image-text", "text"):
            for condition in scores.shown:
                for measure, estimate in _measured(scores, objective, modality, condition):
                    by = out.setdefault(objective, {}).setdefault(measure, {})
                    by.setdefault(modality, {})[condition] = estimate
    return out


def judged_on(scores: Scores) -> dict[str, set[Modality]]:
    """By objective, the modalities of the records of which single responses are judged on it."""
    out: dict[str, set[Modality]] = {name: set() for name in scores.objectives}
    for record in scores.records:
        for rating in record.ratings:
            if rating.objective in out and rating.low < rating.high:
                out[rating.objective].add(record.modality)
    return out


def _measured(scores: Scores, objective: str, modality: str, condition: str) -> list[tuple[str, Estimate]]:
    k = scores.objectives.index(objective)
    signs: list[_Single] = []
    rated: list[_Single] = []
    right: list[tuple[bool, int]] = []
    for index, (record, scored) in enumerate(zip(scores.records, scores.shown[condition], strict=True)):
        if scored is None or record.modality != modality or not record.ratings:
            continue
        signs += _signs(record, objective, scored, k, scores.clusters[index])
        rates = _rates(record, objective)
        rated += [_single(value, i, scored, k, scores.clusters[index]) for i, value in rates.items()]
        for one, other in itertools.combinations(rates, 2):
            if rates[one] != rates[other]:
                pair = (one, other) if rates[one] > rates[other] else (other, one)
                right.append((scored.gap(pair, k) > 0, scores.clusters[index]))
    found = {
        "yes_no_auroc": auroc(
            [s.reward for s in signs], np.array([s.value > 0.5 for s in signs]), [s.cluster for s in signs]
        )
        if signs
        else None,
        "yes_no_accuracy": _signs_right(signs),
        "rated_pairs": clustered_share([r for r, _ in right], [cluster for _, cluster in right]),
        "rating_order": concordance(
            [s.reward for s in rated], [s.value for s in rated], [s.cluster for s in rated]
        ),
    }
    return [(name, estimate) for name, estimate in found.items() if estimate]


def _signs(record: PreferenceRecord, objective: str, scored: Scored, k: int, cluster: int) -> list[_Single]:
    return [
        _single(float(rating.value > (rating.low + rating.high) / 2), rating.response, scored, k, cluster)
        for rating in record.ratings
        if rating.objective == objective and rating.kind == "binary" and rating.low < rating.high
    ]


def _rates(record: PreferenceRecord, objective: str) -> dict[int, float]:
    """By response, the mean of its judges' ratings as shares of their scales."""
    values: dict[int, list[float]] = {}
    for rating in record.ratings:
        if rating.objective == objective and rating.kind == "scalar" and rating.low < rating.high:
            value = (rating.value - rating.low) / (rating.high - rating.low)
            values.setdefault(rating.response, []).append(value)
    return {response: sum(of) / len(of) for response, of in values.items()}


def _single(value: float, response: int, scored: Scored, k: int, cluster: int) -> _Single:
    zero = math.nan if scored.zero_K is None else float(scored.zero_K[k])
    return _Single(value, float(scored.mean_RK[response, k]), zero, cluster)


def _signs_right(signs: Sequence[_Single]) -> Estimate | None:
    judged = [s for s in signs if not math.isnan(s.zero)]
    return clustered_share(
        [(s.reward > s.zero) == (s.value > 0.5) for s in judged], [s.cluster for s in judged]
    )
