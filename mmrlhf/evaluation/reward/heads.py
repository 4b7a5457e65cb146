"""What the heads have to do with each other: whether they order answers alike, and whether raising one raises the
other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from data_tools.intervals import Estimate, clustered_mean, clustered_share
from data_tools.schema import PreferenceRecord
from data_tools.splits import components
from mmrlhf.evaluation.reward.scoring import MEAN, TRUE, Decided, Scores
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel
from mmrlhf.terminal import Bar
from mmrlhf.types import Row


def agreement(decided: Sequence[Decided], objectives: Sequence[str]) -> dict[str, dict[str, Estimate | None]]:
    """By two objectives that were judged on the same responses: how often both judges, and both heads, order alike."""
    by_pair: dict[tuple[int, frozenset[int]], dict[str, Decided]] = {}
    for c in decided:
        # two records may share an id across sources: the object itself tells them apart
        by_pair.setdefault((id(c.record), frozenset(c.pair)), {})[c.objective] = c
    out = {}
    for one, other in itertools.combinations(objectives, 2):
        both = [(found[one], found[other]) for found in by_pair.values() if one in found and other in found]
        if both:
            clusters = [a.cluster for a, _ in both]
            out[f"{one} & {other}"] = {
                "judges": clustered_share([a.pair == b.pair for a, b in both], clusters),
                "heads": clustered_share([_alike(a, b) for a, b in both], clusters),
            }
    return out


def _alike(one: Decided, other: Decided) -> bool:
    return (one.gaps[TRUE] > 0) == ((other.gaps[TRUE] > 0) == (one.pair == other.pair))


def disagreement(scores: Scores) -> dict[str, Estimate]:
    """By two heads: how often they put two answers of a record in opposite orders, whoever judged these and on what.
    Only on prompts of a kind that both were trained on. Heads that can't tell two answers apart don't disagree."""
    out = {}
    for one, other in itertools.combinations([name for name in scores.objectives if name != MEAN], 2):
        found: list[tuple[int, bool]] = []
        for index, record in enumerate(scores.records):
            if record.modality not in scores.applies[one] & scores.applies[other]:
                continue
            for pair in _pairs(record):
                a, b = scores.gap(index, one, pair), scores.gap(index, other, pair)
                if a is not None and b is not None:
                    found.append((scores.clusters[index], a * b < 0))
        e = clustered_share([value for _, value in found], [cluster for cluster, _ in found])
        if e:
            out[f"{one} & {other}"] = e
    return out


def _pairs(record: PreferenceRecord) -> list[tuple[int, int]]:
    """The pairs of responses that any judge compared, each once."""
    return sorted({(min(c.better, c.worse), max(c.better, c.worse)) for c in record.pairs()})


def gradient_cosines(
    reward_model: RewardModel,
    records: Sequence[PreferenceRecord],
    count: int,
    max_answer_tokens: int | None = None,
    bar: Bar | None = None,
) -> dict[str, Estimate]:
    """By two heads, over the first `count` records that compare answers: the cosine between the gradients of their
    reward gaps (first answer of the pair minus the second) by the weights of the language model's last layer.

    1: whatever makes one head prefer an answer more makes the other do so too; 0: they can be trained apart; below 0:
    they pull against each other. It needs no labels, and both heads are asked about the same two answers, so that it
    isn't the data that differs. Only on prompts of a kind that both heads were trained on. The last layer stands for
    the trunk: it holds what heads still share and costs little, a forward and a backward an objective for each pair.
    """
    layer = last_layer(reward_model.vlm)
    weights = [weight for weight in layer.parameters() if weight.is_floating_point()]
    wanted = [weight.requires_grad for weight in weights]
    names = reward_model.card.objectives
    found: dict[str, list[tuple[float, int]]] = {}
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for number, (record, pair, cluster) in enumerate(itertools.islice(_first_pairs(records), count)):
            gradient_KW = _gradients(reward_model, record, pair, weights, max_answer_tokens)
            for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
                norms = reward_model.card.norms
                both = all(record.modality in norms.get(name, {}) for name in (one, other))
                size = gradient_KW[i].norm() * gradient_KW[j].norm()
                if both and size > 0:  # both are 0 where the answers are the same tokens
                    cosine = float((gradient_KW[i] @ gradient_KW[j] / size).clamp(-1, 1))
                    found.setdefault(f"{one} & {other}", []).append((cosine, cluster))
            if bar:
                bar(number + 1)
    finally:
        for weight, on in zip(weights, wanted, strict=True):
            weight.requires_grad_(on)
    means = {
        name: clustered_mean([cosine for cosine, _ in part], [cluster for _, cluster in part])
        for name, part in found.items()
    }
    return {name: e for name, e in means.items() if e}


def _first_pairs(
    records: Sequence[PreferenceRecord],
) -> Iterator[tuple[PreferenceRecord, tuple[int, int], int]]:
    """The first pair of each record that has one, and the record's cluster."""
    for record, cluster in zip(records, components(records), strict=True):
        for pair in _pairs(record)[:1]:
            yield record, pair, cluster


def _gradients(
    reward_model: RewardModel,
    record: PreferenceRecord,
    pair: tuple[int, int],
    weights: Sequence[nn.Parameter],
    max_answer_tokens: int | None,
) -> Tensor:
    """Of each head's gap by the weights: (K, W), float32."""
    vlm = reward_model.vlm
    prompt = encode_prompt(vlm, record)
    rows = [Row(prompt, encode_answer(vlm, record.responses[i].text, max_answer_tokens)) for i in pair]
    with torch.enable_grad():
        rewards = reward_model(collate(vlm, rows, vlm.device))
        gap_K = (rewards[0] - rewards[1]).reshape(len(reward_model.card.objectives), -1).mean(1)
    gradients: list[Tensor] = []
    for gap in gap_K:
        parts: Any = torch.autograd.grad(gap, weights, retain_graph=True, allow_unused=True)
        gradients.append(
            torch.cat(
                [
                    (torch.zeros_like(weight) if part is None else part).flatten().float()
                    for part, weight in zip(parts, weights, strict=True)
                ]
            )
        )
    return torch.stack(gradients)


def last_layer(vlm: VLM) -> nn.Module:
    """The last layer of the language model: of its first list of modules, which in all families holds its layers."""
    language = parts_of(vlm.core, vlm.path).language
    for module in language.modules():
        if isinstance(module, nn.ModuleList) and len(module):
            return module[-1]
    return language
