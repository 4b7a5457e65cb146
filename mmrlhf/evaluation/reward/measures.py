"""What a reward model gets right and whether it looked, from comparisons whose answers were scored.

Everything here is a function of `Decided` comparisons. A comparison is right where the better response has the higher
reward by more than rounding: a scorer that can't tell two answers apart gets nothing for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data_tools.intervals import Estimate, clustered_mean, clustered_share, difference, share_change
from mmrlhf.evaluation.reward.scoring import CONDITIONS, DEGRADED, NONE, TRUE, Decided

By = dict[str, dict[str, Estimate]]  # objective -> which -> estimate


def of(decided: Sequence[Decided], objective: str) -> list[Decided]:
    """The comparisons on one objective."""
    return [c for c in decided if c.objective == objective]


def share(part: Sequence[Decided], right: Callable[[Decided], bool] = lambda c: c.right) -> Estimate | None:
    """The share of comparisons of which `right` holds, None without any."""
    return clustered_share([right(c) for c in part], [c.cluster for c in part])


def mean(part: Sequence[Decided], value: Callable[[Decided], float]) -> Estimate | None:
    """The mean of a number over comparisons, None without any."""
    return clustered_mean([float(value(c)) for c in part], [c.cluster for c in part])


def accuracy(decided: Sequence[Decided], objectives: Sequence[str]) -> dict[str, By]:
    """By objective, modality and condition: the share of comparisons that are right."""
    out: dict[str, By] = {}
    for objective in objectives:
        for modality in ("image-text", "text"):
            part = [c for c in of(decided, objective) if c.record.modality == modality]
            for shown in CONDITIONS:
                found = share([c for c in part if shown in c.gaps], lambda c, s=shown: c.gaps[s] > 0)  # type: ignore[misc]
                if found:
                    out.setdefault(objective, {}).setdefault(modality, {})[shown] = found
    return out


def gains(decided: Sequence[Decided], objectives: Sequence[str]) -> By:
    """By objective and condition: accuracy with the true image minus accuracy under the condition, comparison by
    comparison. Against `none` it is what the image gains, against the others what is lost with the right one."""
    out: By = {}
    for objective in objectives:
        for shown in CONDITIONS[1:]:
            part = [c for c in of(decided, objective) if shown in c.gaps]
            found = share_change(
                [c.gaps[shown] > 0 for c in part], [c.right for c in part], [c.cluster for c in part]
            )
            if found:
                out.setdefault(objective, {})[shown] = found
    return out


def image_preference(decided: Sequence[Decided], objectives: Sequence[str]) -> By:
    """By objective and degraded image: how often the better answer is worth strictly more on the true one. Each answer
    counts once, however many it is better than."""
    out: By = {}
    for objective in objectives:
        once = {(id(c.record), c.pair[0]): c for c in of(decided, objective)}
        for shown in DEGRADED:
            part = [c for c in once.values() if shown in c.better]
            found = share(part, lambda c, s=shown: c.better[TRUE] - c.better[s] > c.rounding)  # type: ignore[misc]
            if found:
                out.setdefault(objective, {})[shown] = found
    return out


@dataclass(frozen=True)
class Flip:
    """An image-flip pair: whether every comparison of both records is right, and its cluster."""

    right: bool
    cluster: int


def flips(decided: Sequence[Decided], shown: str) -> dict[tuple[str, str], Flip]:
    """By flip pair, those that are there whole."""
    found: dict[tuple[str, str], dict[str, bool]] = {}
    clusters: dict[tuple[str, str], int] = {}
    for c in decided:
        flip = c.record.provenance.get("flip")
        if isinstance(flip, str) and shown in c.gaps:
            halves = found.setdefault((c.record.source, flip), {})
            clusters[c.record.source, flip] = c.cluster
            halves[c.record.id] = halves.get(c.record.id, True) and c.gaps[shown] > 0
    return {
        flip: Flip(all(halves.values()), clusters[flip]) for flip, halves in found.items() if len(halves) == 2
    }


def _flip_share(part: Iterable[Flip]) -> Estimate | None:
    pairs = list(part)
    return clustered_share([flip.right for flip in pairs], [flip.cluster for flip in pairs])


def flip_shares(decided: Sequence[Decided]) -> dict[str, Estimate]:
    """With the true image and with none: the share of flip pairs both of whose records are right."""
    return {shown: e for shown in (TRUE, NONE) if (e := _flip_share(flips(decided, shown).values()))}


def flip_edits(decided: Sequence[Decided]) -> dict[str, Estimate]:
    """The share with the true image by kind of edit: what the two pictures differ in."""
    kinds = {
        (c.record.source, c.record.provenance.get("flip")): c.record.provenance.get("edit") for c in decided
    }
    by_kind: dict[str, list[Flip]] = {}
    for name, flip in flips(decided, TRUE).items():
        kind = kinds[name]
        if isinstance(kind, str):
            by_kind.setdefault(kind, []).append(flip)
    return {kind: e for kind, part in sorted(by_kind.items()) if (e := _flip_share(part))}


def where_blind_fails(
    decided: Sequence[Decided],
    objectives: Sequence[str],
    blind_gap: Callable[[Decided], float | None],
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
                "blind_wrong": share([c for c, _ in asked], lambda c, f=failed: id(c) in f),  # type: ignore[misc]
                "accuracy": share(wrong),
            }
    return out


def modality_gap(decided: Sequence[Decided], objectives: Sequence[str]) -> dict[str, Estimate]:
    """By objective that was judged on both: accuracy on image comparisons minus accuracy on those of text."""
    out = {}
    for objective in objectives:
        part = of(decided, objective)
        image, text = (share([c for c in part if c.record.modality == m]) for m in ("image-text", "text"))
        if image and text:
            out[objective] = difference(image, text)
    return out


def length(decided: Sequence[Decided], objectives: Sequence[str]) -> dict[str, dict[str, Any]]:
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
            "longer_is_better": share([c for c in part if c.length_gap], lambda c: c.length_gap > 0),
            "n": len(gaps),
        }
    return out
