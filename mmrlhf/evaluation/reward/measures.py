"""What a reward model gets right and whether it looked, from comparisons whose answers were scored.

Everything here is a function of `Decided` comparisons. A comparison is right where the better response has the strictly
higher reward: a scorer that can't tell two answers apart gets nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.intervals import Estimate, bootstrap, clustered_mean, clustered_share, share_right
from mmrlhf.evaluation.reward.scoring import CONDITIONS, DEGRADED, NONE, TRUE, Decided

By = dict[str, dict[str, Estimate]]  # objective -> which -> estimate


def of(decided: Sequence[Decided], objective: str) -> list[Decided]:
    """The comparisons on one objective."""
    return [c for c in decided if c.objective == objective]


def share(
    part: Sequence[Decided], seed: int, right: Callable[[Decided], bool] = lambda c: c.right
) -> Estimate | None:
    """The share of comparisons of which `right` holds, None without any."""
    return clustered_share([right(c) for c in part], [c.cluster for c in part], seed)


def mean(part: Sequence[Decided], seed: int, value: Callable[[Decided], float]) -> Estimate | None:
    """The mean of a number over comparisons, None without any."""
    return clustered_mean([float(value(c)) for c in part], [c.cluster for c in part], seed)


def accuracy(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> dict[str, By]:
    """By objective, modality and condition: the share of comparisons that are right."""
    out: dict[str, By] = {}
    for objective in objectives:
        for modality in ("image-text", "text"):
            part = [c for c in of(decided, objective) if c.record.modality == modality]
            for shown in CONDITIONS:
                found = share([c for c in part if shown in c.gaps], seed, lambda c, s=shown: c.gaps[s] > 0)  # type: ignore[misc]
                if found:
                    out.setdefault(objective, {}).setdefault(modality, {})[shown] = found
    return out


def gains(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> By:
    """By objective and condition: accuracy with the true image minus accuracy under the condition, comparison by
    comparison. Against `none` it is what the image gains, against the others what is lost with the right one."""
    out: By = {}
    for objective in objectives:
        for shown in CONDITIONS[1:]:
            part = [c for c in of(decided, objective) if shown in c.gaps]
            found = mean(part, seed, lambda c, s=shown: float(c.right) - float(c.gaps[s] > 0))  # type: ignore[misc]
            if found:
                out.setdefault(objective, {})[shown] = found
    return out


def image_preference(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> By:
    """By objective and degraded image: how often the better answer is worth strictly more on the true one. Each answer
    counts once, however many it is better than."""
    out: By = {}
    for objective in objectives:
        once = {(id(c.record), c.pair[0]): c for c in of(decided, objective)}
        for shown in DEGRADED:
            part = [c for c in once.values() if shown in c.better]
            found = share(part, seed, lambda c, s=shown: c.better[TRUE] > c.better[s])  # type: ignore[misc]
            if found:
                out.setdefault(objective, {})[shown] = found
    return out


def flips(decided: Sequence[Decided], shown: str) -> dict[tuple[str, str], bool]:
    """By flip pair, of those that are there whole: whether every comparison of both records is right."""
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for c in decided:
        flip = c.record.provenance.get("flip")
        if isinstance(flip, str) and shown in c.gaps:
            halves = found.setdefault((c.record.source, flip), {})
            halves[c.record.id] = halves.get(c.record.id, True) and c.gaps[shown] > 0
    return {flip: all(halves.values()) for flip, halves in found.items() if len(halves) == 2}


def flip_shares(decided: Sequence[Decided], seed: int) -> dict[str, Estimate]:
    """With the true image and with none: the share of flip pairs both of whose records are right."""
    return {
        shown: e for shown in (TRUE, NONE) if (e := share_right(list(flips(decided, shown).values()), seed))
    }


def flip_edits(decided: Sequence[Decided], seed: int) -> dict[str, Estimate]:
    """The share with the true image by kind of edit: what the two pictures differ in."""
    kinds = {
        (c.record.source, c.record.provenance.get("flip")): c.record.provenance.get("edit") for c in decided
    }
    right: dict[str, list[bool]] = {}
    for flip, both in flips(decided, TRUE).items():
        kind = kinds[flip]
        if isinstance(kind, str):
            right.setdefault(kind, []).append(both)
    return {kind: e for kind, part in sorted(right.items()) if (e := share_right(part, seed))}


def where_blind_fails(
    decided: Sequence[Decided],
    objectives: Sequence[str],
    blind_gap: Callable[[Decided], float | None],
    seed: int,
) -> dict[str, dict[str, Estimate | None]]:
    """By objective, on image comparisons that a text-only reader was asked too: `blind_wrong`, the share that it
    doesn't get right, and `accuracy`, how many of those are right with the true image.

    `blind_gap` gives the text-only reader's reward of the better response minus the worse one's.
    """
    out: dict[str, dict[str, Estimate | None]] = {}
    for objective in objectives:
        asked = [
            (c, gap)
            for c in of(decided, objective)
            if c.record.modality == "image-text" and (gap := blind_gap(c)) is not None
        ]
        wrong = [c for c, gap in asked if gap <= 0]
        failed = {id(c) for c in wrong}
        if asked:
            out[objective] = {
                "blind_wrong": share([c for c, _ in asked], seed, lambda c, f=failed: id(c) in f),  # type: ignore[misc]
                "accuracy": share(wrong, seed),
            }
    return out


def modality_gap(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> dict[str, Estimate]:
    """By objective that was judged on both: accuracy on image comparisons minus accuracy on those of text."""
    out = {}
    for objective in objectives:
        part = of(decided, objective)
        right = np.array([c.right for c in part], dtype=np.float64)
        image = np.array([c.record.modality == "image-text" for c in part], dtype=np.bool_)
        if not image.any() or image.all():
            continue

        def gap(
            index: NDArray[np.int64], right: NDArray[np.float64] = right, image: NDArray[np.bool_] = image
        ) -> float:
            drawn, shown = right[index], image[index]
            if not shown.any() or shown.all():
                return math.nan
            return float(drawn[shown].mean() - drawn[~shown].mean())

        out[objective] = bootstrap(gap, [c.cluster for c in part], seed)
    return out


def length(decided: Sequence[Decided], objectives: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """By objective: the correlation of reward gaps with length gaps, each pair taken in both orders, so that which
    response stands first means nothing: sum(r l) / sqrt(sum(r^2) sum(l^2)); and how often the longer one is better."""
    out: dict[str, dict[str, Any]] = {}
    for objective in objectives:
        part = of(decided, objective)
        if not part:
            continue
        gaps = [(c.gaps[TRUE], c.length_gap) for c in part]
        spread = math.sqrt(sum(r * r for r, _ in gaps)) * math.sqrt(sum(n * n for _, n in gaps))
        out[objective] = {
            "correlation": sum(r * n for r, n in gaps) / spread if spread > 0 else None,
            # of the judged pairs of unequal length
            "longer_is_better": share([c for c in part if c.length_gap], seed, lambda c: c.length_gap > 0),
            "n": len(gaps),
        }
    return out
