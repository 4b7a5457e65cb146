"""VL-RewardBench (Li et al. 2024, "VL-RewardBench: A Challenging Benchmark for Vision-Language Generative Reward
Models"): `id, query, response[2], image, human_ranking[2], query_source`.

Scores: `overall` over all rows, one a group (general, hallucination, reasoning), and `macro`, the mean of these three
where all of them are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.intervals import bootstrap, share_right
from data_tools.schema import PreferenceRecord
from mmrlhf.evaluation.benchmarks.base import (
    Benchmark,
    Outcome,
    RowError,
    Scores,
    check_text,
    group_scores,
    pair_record,
    take_images,
    take_name,
    take_text,
    two_answers,
)

GROUPS = {
    "wildvision-battle": "general",
    "vlfeedback": "general",
    "povid": "hallucination",
    "rlhf-v": "hallucination",
    "rlaif-v": "hallucination",
    "reasoning_tasks": "reasoning",
}
# how ids begin, for copies whose rows don't name their source (the published scripts go by these)
PREFIXES = {
    "wildvision": "general",
    "vlfeedback": "general",
    "hallucination": "hallucination",
    "rlhf": "hallucination",
    "rlaif": "hallucination",
    "mathverse": "reasoning",
    "mmmu": "reasoning",
}
OTHER = "other"  # counts in overall, not in macro


def _convert(row: dict[str, Any], images: Path, where: str) -> PreferenceRecord:
    texts = row.get("response")
    if not isinstance(texts, list) or len(texts) != 2:
        raise RowError("response is no list of two answers")
    first, second = (check_text(answer, "an answer") for answer in texts)
    ranking = row.get("human_ranking")
    # whole numbers only: 0.0 and false are none
    if (
        not isinstance(ranking, list)
        or {type(rank) for rank in ranking} != {int}
        or sorted(ranking) != [0, 1]
    ):
        raise RowError("human_ranking is no order of two answers (0: the better one)")
    answers = two_answers(first, second, better=ranking.index(0))
    shown = take_images(row, "image", images)
    name = take_name(row, "id")
    provenance = {"row": name, "group": _group(row.get("query_source"), name)}
    return pair_record("vl_rewardbench", where, take_text(row, "query"), shown, answers, provenance)


def _group(source: object, name: str) -> str:
    if isinstance(source, str) and source.strip().lower() in GROUPS:
        return GROUPS[source.strip().lower()]
    prefix = name.lower().replace("_", "-").partition("-")[0]
    return PREFIXES.get(prefix, OTHER)


def _score(outcomes: Sequence[Outcome], seed: int) -> Scores:
    scores = group_scores(outcomes, seed)
    overall = share_right([outcome.right for outcome in outcomes], seed)
    if overall is None:
        return scores
    named = sorted(set(GROUPS.values()))
    found = {"overall": overall}
    if set(named) <= scores.keys():
        inside = [outcome for outcome in outcomes if outcome.record.provenance["group"] in named]
        right = np.array([outcome.right for outcome in inside], dtype=np.float64)
        group = np.array([named.index(outcome.record.provenance["group"]) for outcome in inside])

        def macro(index: Any) -> float:
            # NaN, and so left out, where a resample lacks a group
            count = np.bincount(group[index], minlength=len(named))
            sums = np.bincount(group[index], weights=right[index], minlength=len(named))
            return float((sums / count).mean()) if count.all() else float("nan")

        alike = share_right([bool(r) for r in right], seed) if right.all() or not right.any() else None
        found["macro"] = alike or bootstrap(macro, range(len(inside)), seed)
    return found | scores


VL_REWARDBENCH = Benchmark("vl_rewardbench", "VL-RewardBench", _convert, _score)
