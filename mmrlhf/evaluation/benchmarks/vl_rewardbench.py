"""VL-RewardBench (Li et al. 2024, "VL-RewardBench: A Challenging Benchmark for Vision-Language Generative Reward
Models"): `id, query, response[2], image, human_ranking[2], query_source`.

Scores: `overall` over all rows, one a group (general, hallucination, reasoning), and `macro`, the mean of these three
where all of them are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.intervals import mean_of_parts
from data_tools.schema import PreferenceRecord
from mmrlhf.evaluation.benchmarks.base import (
    Benchmark,
    Outcome,
    RowError,
    Scores,
    category_scores,
    check_text,
    pair_record,
    share_right,
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
    provenance = {"row": name, "category": _group(row.get("query_source"), name)}
    return pair_record("vl_rewardbench", where, take_text(row, "query"), shown, answers, provenance)


def _group(source: object, name: str) -> str:
    if isinstance(source, str) and source.strip().lower() in GROUPS:
        return GROUPS[source.strip().lower()]
    prefix = name.lower().replace("_", "-").partition("-")[0]
    return PREFIXES.get(prefix, OTHER)


def _score(outcomes: Sequence[Outcome]) -> Scores:
    scores = category_scores(outcomes)
    overall = share_right(outcomes)
    if overall is None:
        return scores
    named = sorted(set(GROUPS.values()))
    macro = {"macro": mean_of_parts([scores[name] for name in named])} if set(named) <= scores.keys() else {}
    return {"overall": overall} | macro | scores


VL_REWARDBENCH = Benchmark("vl_rewardbench", "VL-RewardBench", _convert, _score)
