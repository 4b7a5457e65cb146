"""Multimodal RewardBench (Yasunaga et al. 2025, "Multimodal RewardBench: Holistic Evaluation of Reward Models for
Vision Language Models"): `ID, Text, Image, Output1, Output2, Better, Category`.

Scores: `overall` over all rows, and one a category; as in the published script, safety and reasoning are told apart by
how the ID begins. A category that is named as the score of all rows is `category/overall`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.schema import PreferenceRecord
from mmrlhf.evaluation.benchmarks.base import (
    Benchmark,
    Outcome,
    RowError,
    Scores,
    category_scores,
    pair_record,
    share_right,
    take_images,
    take_name,
    take_text,
    two_answers,
)

OVERALL = "overall"
# category -> how the ID begins, what the row is then, and what it is else
PARTED = {
    "safety": ("pairs", "safety/bias", "safety/toxicity"),
    "reasoning": ("math", "reasoning/math", "reasoning/coding"),
}


def _convert(row: dict[str, Any], images: Path, where: str) -> PreferenceRecord:
    better = row.get("Better")
    if better not in ("Output1", "Output2"):
        raise RowError("Better is neither Output1 nor Output2")
    answers = two_answers(
        take_text(row, "Output1"), take_text(row, "Output2"), better=0 if better == "Output1" else 1
    )
    shown = take_images(row, "Image", images)
    name, category = take_name(row, "ID"), take_text(row, "Category")
    if category in PARTED:
        start, one, other = PARTED[category]
        category = one if name.lower().startswith(start) else other
    if category == OVERALL:
        category = f"category/{category}"
    provenance = {"row": name, "category": category}
    return pair_record("multimodal_rewardbench", where, take_text(row, "Text"), shown, answers, provenance)


def _score(outcomes: Sequence[Outcome]) -> Scores:
    overall = share_right(outcomes)
    return ({OVERALL: overall} if overall else {}) | category_scores(outcomes)


MULTIMODAL_REWARDBENCH = Benchmark("multimodal_rewardbench", "Multimodal RewardBench", _convert, _score)
