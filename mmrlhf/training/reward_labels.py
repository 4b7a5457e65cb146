"""From what records judge to the labels of a batch: each goes to the head of the objective that it names, and a label
on an objective that isn't learnt goes nowhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch

from data_tools.schema import Comparison, PreferenceRecord, Ranking, Rating
from mmrlhf.config import RewardConfig
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.heads import bootstrap
from mmrlhf.types import PairBatch, RankingLabel, ResponseLabels, Row

Item = tuple[PreferenceRecord, list[Row]]  # a record and a row for each of its responses
LabelKind = Literal["pair", "ranking", "rating", "binary"]


def encode_responses(vlm: VLM, record: PreferenceRecord, max_prompt: int, max_answer: int) -> list[Row]:
    """A row for each response of the record, all with the same prompt."""
    prompt = encode_prompt(vlm, record, max_prompt)
    return [Row(prompt, encode_answer(vlm, response.text, max_answer)) for response in record.responses]


def kind_of(label: Comparison | Ranking | Rating) -> LabelKind:
    """The kind of a label, as `reward.weights` names it."""
    if isinstance(label, Rating):
        return "binary" if label.kind == "binary" else "rating"
    return "pair" if isinstance(label, Comparison) else "ranking"


def labels_of(record: PreferenceRecord, config: RewardConfig) -> list[Comparison | Ranking | Rating]:
    """What of a record's judgements is learnt: on an objective that has a head, of a kind that has a weight. A scale of
    one value says nothing."""
    found: list[Comparison | Ranking | Rating] = [*record.comparisons, *record.rankings]
    found += [rating for rating in record.ratings if rating.low < rating.high]
    return [
        label
        for label in found
        if label.objective in config.objectives and getattr(config.weights, kind_of(label)) > 0
    ]


def learnt_part(record: PreferenceRecord, config: RewardConfig) -> PreferenceRecord:
    """The record with the comparisons and rankings alone that are learnt."""
    labels = labels_of(record, config)
    return dataclasses.replace(
        record,
        comparisons=tuple(label for label in labels if isinstance(label, Comparison)),
        rankings=tuple(label for label in labels if isinstance(label, Ranking)),
    )


def judged_responses(record: PreferenceRecord, objective: str, config: RewardConfig) -> list[int]:
    """The responses of which something is learnt on an objective."""
    found: set[int] = set()
    for label in labels_of(record, config):
        if label.objective == objective:
            if isinstance(label, Rating):
                found.add(label.response)
            elif isinstance(label, Ranking):
                found.update(index for group in label.order for index in group)
            else:
                found |= {label.better, label.worse}
    return sorted(found)


def unit_of(record: PreferenceRecord) -> str:
    """What bootstraps of the data draw as one: the two records of an image-flip pair, since one of them alone can be
    told without looking; else a record."""
    flip = record.provenance.get("flip")
    return f"{record.source}/flip/{flip}" if isinstance(flip, str) else f"{record.source}/{record.id}"


class Labels:
    """Collects the rows and labels of one micro-batch. Responses are named by their index among the rows."""

    def __init__(self, config: RewardConfig, seed: int) -> None:
        """`seed` draws the bootstraps of an ensemble's members."""
        self.config, self.seed = config, seed
        self.rows: list[Row] = []
        self._pairs: list[tuple[int, int, int, bool, float, float, list[float]]] = []
        self._rankings: list[RankingLabel] = []
        self._single: dict[LabelKind, list[tuple[int, int, float, float, list[float]]]] = {
            "rating": [],
            "binary": [],
        }

    def add_rows(self, rows: Sequence[Row]) -> int:
        """Adds responses; the index of the first of them."""
        self.rows += rows
        return len(self.rows) - len(rows)

    def add_record(self, record: PreferenceRecord, rows: Sequence[Row]) -> int:
        """Adds a record's responses and all that is learnt from its judgements; the index of the first response."""
        first, unit = self.add_rows(rows), unit_of(record)
        for label in labels_of(record, self.config):
            if isinstance(label, Rating):
                value = (label.value - label.low) / (label.high - label.low)
                self._judge(kind_of(label), first + label.response, label.objective, value, unit)
            elif isinstance(label, Ranking):
                order = [[first + index for index in group] for group in label.order]
                self._rank(order, label.objective, unit)
            else:
                margin = 0.0 if label.tie else label.margin or 0.0
                pair = first + label.better, first + label.worse
                weight = self.config.weights.pair
                self.compare(*pair, label.objective, unit, weight, tie=label.tie, margin=margin)
        return first

    def compare(
        self,
        better: int,
        worse: int,
        objective: str,
        unit: str,
        weight: float,
        tie: bool = False,
        margin: float = 0.0,
    ) -> None:
        """Adds a comparison of two responses, `margin` in the judge's units; what has the same `unit` (see `unit_of`)
        is in the same bootstraps."""
        self._pairs.append(
            (
                better,
                worse,
                self.config.objectives.index(objective),
                tie,
                margin * self.config.margin_scale,
                weight,
                self._copies(unit),
            )
        )

    def _rank(self, order: Iterable[Iterable[int]], objective: str, unit: str) -> None:
        groups = tuple(tuple(group) for group in order)
        copies_M = torch.tensor(self._copies(unit))
        k = self.config.objectives.index(objective)
        self._rankings.append(RankingLabel(groups, k, self.config.weights.ranking, copies_M))

    def _judge(self, kind: LabelKind, response: int, objective: str, value: float, unit: str) -> None:
        weight, k = getattr(self.config.weights, kind), self.config.objectives.index(objective)
        self._single[kind].append((response, k, value, weight, self._copies(unit)))

    def _copies(self, unit: str) -> list[float]:
        return bootstrap(self.seed, unit, self.config.members)

    def batch(self) -> PairBatch:
        """All of it as tensors, on the CPU."""
        better, worse, objective, tie, margin, weight, copies = _columns(self._pairs, 7)
        return PairBatch(
            rows=tuple(self.rows),
            better_N=torch.tensor(better, dtype=torch.int64),
            worse_N=torch.tensor(worse, dtype=torch.int64),
            objective_N=torch.tensor(objective, dtype=torch.int64),
            tie_N=torch.tensor(tie, dtype=torch.bool),
            margin_N=torch.tensor(margin, dtype=torch.float32),
            weight_N=torch.tensor(weight, dtype=torch.float32),
            copies_NM=torch.tensor(copies, dtype=torch.float32).reshape(-1, self.config.members),
            rankings=tuple(self._rankings),
            ratings=self._responses("rating"),
            binaries=self._responses("binary"),
        )

    def _responses(self, kind: LabelKind) -> ResponseLabels:
        response, objective, value, weight, copies = _columns(self._single[kind], 5)
        return ResponseLabels(
            response_N=torch.tensor(response, dtype=torch.int64),
            objective_N=torch.tensor(objective, dtype=torch.int64),
            value_N=torch.tensor(value, dtype=torch.float32),
            weight_N=torch.tensor(weight, dtype=torch.float32),
            copies_NM=torch.tensor(copies, dtype=torch.float32).reshape(-1, self.config.members),
        )


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


def label_batch(items: Iterable[Item], config: RewardConfig, seed: int) -> PairBatch:
    """The labels of some records, over their rows put together."""
    labels = Labels(config, seed)
    for record, rows in items:
        labels.add_record(record, rows)
    return labels.batch()
