"""MM-RLHF-RewardBench (Zhang et al. 2025, "MM-RLHF: The Next Step Forward in Multimodal LLM Alignment"): a pair a row,
`id, image, prompt, chosen, rejected`; rows of one id belong to one sample. Rows with a video are refused.

Scores: `acc` over pairs, `acc_plus` over samples, which are right where all their pairs are, and both of each kind of
task, which is read from the image's path: its first folder or file that is named by a kind, alone or in front of other
characters than letters (`long/1.png`, `mcq_12.png`). A sample of which a pair couldn't be scored is in `acc` only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.intervals import clustered_share
from data_tools.schema import PreferenceRecord
from mmrlhf.evaluation.benchmarks.base import (
    Benchmark,
    Outcome,
    RowError,
    Scores,
    pair_record,
    path_of,
    share_right,
    take_images,
    take_name,
    take_text,
    two_answers,
)

KINDS = ("mcq", "long", "short", "safety")
OTHER = "other"
_NAMED = re.compile(rf"({'|'.join(KINDS)})(?![a-z])", re.IGNORECASE)


def _convert(row: dict[str, Any], images: Path, where: str) -> PreferenceRecord:
    if row.get("image") is None and row.get("video") is not None:
        raise RowError("shows a video")
    answers = two_answers(take_text(row, "chosen"), take_text(row, "rejected"), better=0)
    shown = take_images(row, "image", images)
    name = _sample(row)
    # the pairs of a sample hang together
    provenance = {"row": name, "sample": name, "group": name, "category": _kind(row.get("image"))}
    return pair_record("mm_rlhf_rewardbench", where, take_text(row, "prompt"), shown, answers, provenance)


def _kind(image: object) -> str:
    # of a path the parts: longest_short.png is neither long nor short
    parts = re.split(r"[/\\]", path_of(image) or "")
    return next((found[1].lower() for part in parts if (found := _NAMED.match(part))), OTHER)


def _sample(row: dict[str, Any]) -> str:
    return take_name(row, "id")


def _score(outcomes: Sequence[Outcome]) -> Scores:
    scores = _pairs_and_samples(outcomes, "")
    kinds = sorted({outcome.record.provenance["category"] for outcome in outcomes})
    for kind in kinds if kinds != [OTHER] else []:
        part = [outcome for outcome in outcomes if outcome.record.provenance["category"] == kind]
        scores |= _pairs_and_samples(part, f"{kind}/")
    return scores


def _pairs_and_samples(outcomes: Sequence[Outcome], prefix: str) -> Scores:
    samples: dict[str, bool] = {}
    clusters: dict[str, int] = {}
    for outcome in outcomes:
        name = outcome.record.provenance["sample"]
        if outcome.whole:
            samples[name] = samples.get(name, True) and outcome.right
            clusters[name] = outcome.cluster
    found = {
        "acc": share_right(outcomes),
        "acc_plus": clustered_share(list(samples.values()), list(clusters.values())),
    }
    return {f"{prefix}{name}": e for name, e in found.items() if e}


MM_RLHF_REWARDBENCH = Benchmark("mm_rlhf_rewardbench", "MM-RLHF-RewardBench", _convert, _score, _sample)
