"""What a reward model gets right, and whether it looked: the same pairs with the true image, another one, and
none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from data_tools.schema import PreferenceRecord
from mmrlhf.evaluation.intervals import Estimate, mean_with_interval
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rewards.variants import swap_images
from mmrlhf.terminal import Bar
from mmrlhf.types import Row

TRUE, SWAPPED, NONE = "true", "swapped", "none"
CONDITIONS = (TRUE, SWAPPED, NONE)


@dataclass(frozen=True)
class RewardEvaluation:
    """The measures of a reward model on preference records that it wasn't trained on.

    A comparison is right where the better response has the higher reward; equal rewards are wrong. Ties of
    the judge have no right order: they are left out and counted.
    """

    objectives: tuple[str, ...]
    records: int
    accuracy: dict[str, dict[str, dict[str, Estimate]]]  # objective -> modality -> image shown -> share right
    ties: dict[str, int]  # objective -> comparisons left out
    flip: dict[str, Estimate]  # image shown (true, none) -> share of flip pairs with both records right
    flip_edits: dict[str, Estimate]  # kind of edit -> the same share with the true image
    length: dict[str, dict[str, Any]]  # objective -> correlation (None: undefined), longer_is_better, n
    agreement: dict[str, dict[str, Any]]  # "a & b" -> judges and heads: shares of responses ordered alike

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Comparison:
    """One decided comparison: `gaps` is the reward of the better response minus the worse one's, by image
    shown."""

    record: PreferenceRecord
    objective: str
    pair: tuple[int, int]  # better, worse
    gaps: dict[str, float]

    @property
    def length_gap(self) -> int:
        """Characters that the better response has more."""
        better, worse = (len(self.record.responses[i].text) for i in self.pair)
        return better - worse


def evaluate_reward(
    reward_model: RewardModel,
    records: Sequence[PreferenceRecord],
    batch_size: int,
    seed: int,
    max_answer_tokens: int | None = None,
    bar: Bar | None = None,
) -> RewardEvaluation:
    """Measures the reward model on preference records; `seed` draws the swapped images and the intervals.

    Raises:
        NonFiniteReward: a reward isn't finite.
    """
    scorer = _Scorer(reward_model, batch_size, max_answer_tokens, 3 * len(records), bar)
    swapped = swap_images(records, seed)
    rewards = {
        TRUE: scorer.score(list(records), blind=False),
        SWAPPED: scorer.score(swapped, blind=False),
        NONE: scorer.score([record if record.images else None for record in records], blind=True),
    }
    objectives = tuple(reward_model.card.objectives)
    decided = list(_comparisons(records, objectives, rewards))
    ties = {
        name: sum(c.tie and c.objective == name for record in records for c in record.comparisons)
        for name in objectives
    }
    return RewardEvaluation(
        objectives=objectives,
        records=len(records),
        accuracy=_accuracy(decided, objectives, seed),
        ties=ties,
        flip={name: e for name in (TRUE, NONE) if (e := _share(list(_flips(decided, name).values()), seed))},
        flip_edits=_flip_edits(decided, seed),
        length={name: _length(part, seed) for name in objectives if (part := _of(decided, name))},
        agreement=_agreement(decided, objectives, seed),
    )


class _Scorer:
    """Rewards of many records' responses, some at a time, so that few images are in memory."""

    def __init__(
        self,
        reward_model: RewardModel,
        batch_size: int,
        max_answer_tokens: int | None,
        total: int,
        bar: Bar | None,
    ) -> None:
        self.reward_model, self.batch_size = reward_model, batch_size
        self.max_answer_tokens = max_answer_tokens
        self.total, self.bar, self.done = total, bar, 0
        # without an image both records of a flip pair hold the same rows; scored once, they can't differ by
        # the rounding of another batch
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def score(self, records: Sequence[PreferenceRecord | None], blind: bool) -> list[Tensor | None]:
        """The rewards (R, K) of each record's R responses, without its images where `blind`."""
        out: list[Tensor | None] = []
        for start in range(0, len(records), self.batch_size):
            part = records[start : start + self.batch_size]
            rows = [self._rows(record, blind) for record in part if record is not None]
            rewards = iter(self._rewards([row for group in rows for row in group]))
            groups = iter(rows)
            for record in part:
                group = None if record is None else next(groups)
                out.append(None if group is None else torch.stack([next(rewards) for _ in group]))
            self.done += len(part)
            if self.bar:
                self.bar(min(self.done, self.total))
        return out

    def _rows(self, record: PreferenceRecord, blind: bool) -> list[Row]:
        vlm = self.reward_model.vlm
        prompt = encode_prompt(vlm, record, images=[] if blind else None)
        answers = [encode_answer(vlm, r.text, self.max_answer_tokens) for r in record.responses]
        return [Row(prompt, answer) for answer in answers]

    def _rewards(self, rows: list[Row]) -> list[Tensor]:
        keys = [None if row.prompt.vision else _key(row) for row in rows]
        fresh: dict[Any, int] = {}  # key, or the row's own index -> a row that holds it
        for index, key in enumerate(keys):
            if key is None or key not in self._known:
                fresh.setdefault(index if key is None else key, index)
        found: dict[Any, Tensor] = {}
        if fresh:
            scored = self.reward_model.score([rows[i] for i in fresh.values()], self.batch_size)
            found = dict(zip(fresh, scored, strict=True))
        self._known |= {key: found[key] for key in keys if key in found and key is not None}
        return [found[index] if key is None else self._known[key] for index, key in enumerate(keys)]


def _key(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(row.prompt.input_ids.tolist()), tuple(row.answer_ids.tolist())


def _comparisons(
    records: Sequence[PreferenceRecord], objectives: Sequence[str], rewards: dict[str, list[Tensor | None]]
) -> Iterator[_Comparison]:
    for index, record in enumerate(records):
        shown = {name: part[index] for name, part in rewards.items()}
        for c in record.comparisons:
            if c.objective not in objectives or c.tie:
                continue
            k = objectives.index(c.objective)
            gaps = {
                name: float(reward[c.better, k] - reward[c.worse, k])
                for name, reward in shown.items()
                if reward is not None
            }
            yield _Comparison(record, c.objective, (c.better, c.worse), gaps)


def _of(decided: list[_Comparison], objective: str) -> list[_Comparison]:
    return [c for c in decided if c.objective == objective]


def _share(right: Sequence[bool], seed: int) -> Estimate | None:
    return mean_with_interval([float(r) for r in right], seed) if right else None


def _accuracy(
    decided: list[_Comparison], objectives: Sequence[str], seed: int
) -> dict[str, dict[str, dict[str, Estimate]]]:
    out: dict[str, dict[str, dict[str, Estimate]]] = {}
    for objective in objectives:
        for modality in ("image-text", "text"):
            part = [c for c in _of(decided, objective) if c.record.modality == modality]
            for shown in CONDITIONS:
                found = _share([c.gaps[shown] > 0 for c in part if shown in c.gaps], seed)
                if found:
                    out.setdefault(objective, {}).setdefault(modality, {})[shown] = found
    return out


def _flips(decided: list[_Comparison], shown: str) -> dict[tuple[str, str], bool]:
    """By flip pair, of those that are there whole: whether every comparison of both records is right."""
    found: dict[tuple[str, str], dict[str, bool]] = {}
    for c in decided:
        flip = c.record.provenance.get("flip")
        if isinstance(flip, str) and shown in c.gaps:
            halves = found.setdefault((c.record.source, flip), {})
            halves[c.record.id] = halves.get(c.record.id, True) and c.gaps[shown] > 0
    return {flip: all(halves.values()) for flip, halves in found.items() if len(halves) == 2}


def _flip_edits(decided: list[_Comparison], seed: int) -> dict[str, Estimate]:
    kinds = {
        (c.record.source, c.record.provenance.get("flip")): c.record.provenance.get("edit") for c in decided
    }
    right: dict[str, list[bool]] = {}
    for flip, both in _flips(decided, TRUE).items():
        kind = kinds[flip]
        if isinstance(kind, str):
            right.setdefault(kind, []).append(both)
    return {kind: e for kind, part in sorted(right.items()) if (e := _share(part, seed))}


def _length(decided: list[_Comparison], seed: int) -> dict[str, Any]:
    """The correlation of reward gaps with length gaps, each pair taken in both orders, so that which response
    stands first means nothing: sum(r l) / sqrt(sum(r^2) sum(l^2))."""
    gaps = [(c.gaps[TRUE], c.length_gap) for c in decided]
    spread = math.sqrt(sum(r * r for r, _ in gaps)) * math.sqrt(sum(n * n for _, n in gaps))
    unequal = [length > 0 for _, length in gaps if length]
    return {
        "correlation": sum(r * n for r, n in gaps) / spread if spread > 0 else None,
        "longer_is_better": _share(unequal, seed),  # of the judged pairs of unequal length
        "n": len(gaps),
    }


def _agreement(decided: list[_Comparison], objectives: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """By two objectives that were judged on the same responses: how often both judges, and both heads, order
    alike."""
    by_pair: dict[tuple[int, frozenset[int]], dict[str, tuple[tuple[int, int], float]]] = {}
    for c in decided:
        # two records may share an id across sources: the object itself tells them apart
        by_pair.setdefault((id(c.record), frozenset(c.pair)), {})[c.objective] = (c.pair, c.gaps[TRUE])
    out = {}
    for i, one in enumerate(objectives):
        for other in objectives[i + 1 :]:
            both = [
                (found[one], found[other]) for found in by_pair.values() if one in found and other in found
            ]
            if both:
                judges = [a[0] == b[0] for a, b in both]
                heads = [(a[1] > 0) == ((b[1] > 0) == (a[0] == b[0])) for a, b in both]
                out[f"{one} & {other}"] = {"judges": _share(judges, seed), "heads": _share(heads, seed)}
    return out
