"""What a policy answers: learned rewards, what the gold oracle says, length, and whether it speaks of the
picture.

One answer is sampled a prompt, from the same seed for every policy. The headline is the share of true claims:
of all that a policy's captions say, how much is true of the picture; what the checker can't read counts as
not true. It says nothing of what is left out: a vague caption, "There is an object.", is wholly true. The exact
helpfulness beside it shows that in part: it is the share of the objects that true claims cover, however little
they say of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from data_tools.intervals import Estimate, estimate, ratio_with_interval
from data_tools.oracle import gold
from data_tools.scenes.claims import judge
from data_tools.scenes.language import DESCRIBE
from data_tools.scenes.structure import Scene
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.config import EvaluateConfig
from mmrlhf.models.batch import encode_told
from mmrlhf.models.generate import generate
from mmrlhf.models.vlm import VLM, decode
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers.asking import with_weights
from mmrlhf.rewards.variants import swap_images
from mmrlhf.terminal import Bar


@dataclass(frozen=True)
class Answer:
    """One prompt's answer and all that was measured on it."""

    record: str
    modality: Modality
    text: str
    tokens: int
    ended: bool
    rewards: dict[str, float]  # normalised, only of objectives that were judged on such prompts
    gold: dict[str, float]  # only what can be judged exactly
    swap_gap: dict[str, float]  # reward with the true image minus reward with another one; image prompts only
    claims: (
        list[tuple[str, bool | None]] | None
    )  # pieces of a caption; None: not checkable. None for the rest
    unscored: tuple[
        str, ...
    ] = ()  # objectives that should have given a reward and gave none that is a number


@dataclass(frozen=True)
class PolicyEvaluation:
    """A policy's measures; an objective is absent where nothing was judged, a number None where nothing was
    there."""

    name: str
    objectives: tuple[str, ...]
    learned: dict[str, Estimate]  # mean normalised reward
    gold: dict[str, Estimate]  # mean gold score, in [0, 1]
    true_claims: Estimate | None  # pooled over captions: true claims / all claims
    claims: Estimate | None  # claims a caption
    length: dict[str, Estimate]  # tokens an answer: all, image-text, text
    ended: Estimate | None  # share of answers that end by themselves
    swap_gap: dict[str, Estimate]  # reward with the true image minus with another one, same answer
    answers: tuple[Answer, ...]
    unscored: dict[
        str, int
    ]  # objective -> answers whose reward isn't finite, or whose judge had to abstain: left out

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def evaluate_policy(
    name: str,
    vlm: VLM,
    panel: Panel,
    records: Sequence[PreferenceRecord],
    config: EvaluateConfig,
    max_answer_tokens: int,
    seed: int,
    bar: Bar | None = None,
    weights: Mapping[str, float] | None = None,
) -> PolicyEvaluation:
    """Samples an answer to each record's prompt and measures it; `seed` seeds torch's global generator. `weights` are
    told to the policy in each prompt, and to no judge.

    A reward that isn't finite is left out and counted, as in PPO.

    Raises:
        RunError: an objective can't be asked, or gives no rewards.
    """
    torch.manual_seed(seed)
    swapped = swap_images(records, seed)
    answers: dict[int, Answer] = {}
    # images of one batch at a time are in memory; prompts of like length waste less padding
    order = sorted(range(len(records)), key=lambda i: _size(records[i]))
    for start in range(0, len(order), config.batch_size):
        part = order[start : start + config.batch_size]
        chosen = [(records[i], swapped[i]) for i in part]
        found = _answer(vlm, panel, chosen, config, max_answer_tokens, weights)
        answers |= dict(zip(part, found, strict=True))
        if bar:
            bar(len(answers))
    return summarise(name, panel.objectives, [answers[i] for i in range(len(records))], seed)


def _size(record: PreferenceRecord) -> tuple[str, int]:
    return record.modality, sum(len(message.text) for message in record.prompt)


def _answer(
    vlm: VLM,
    panel: Panel,
    chosen: Sequence[tuple[PreferenceRecord, PreferenceRecord | None]],
    config: EvaluateConfig,
    max_answer_tokens: int,
    weights: Mapping[str, float] | None,
) -> list[Answer]:
    """Answers to some records, each given with itself under another image (None for text)."""
    prompts = [
        encode_told(vlm, record, with_weights(record, weights) if weights else record) for record, _ in chosen
    ]
    ids = generate(vlm, prompts, max_answer_tokens, config.temperature, config.batch_size)
    texts = [decode(vlm, answer) for answer in ids]
    rewards = panel.score([record for record, _ in chosen], texts, config.batch_size, finite=False)
    gap_BK, told_BK = panel.swap_gap(
        rewards, texts, [other for _, other in chosen], config.batch_size, finite=False
    )
    broken_BK = rewards.judged_BK & ~(rewards.mean_BK.isfinite() & rewards.std_BK.isfinite())
    unscored_BK = broken_BK if rewards.abstained_BK is None else broken_BK | rewards.abstained_BK
    objectives = panel.objectives
    return [
        Answer(
            record=record.id,
            modality=record.modality,
            text=texts[i],
            tokens=len(ids[i]),
            ended=bool(len(ids[i])) and int(ids[i][-1]) in vlm.end_ids,
            rewards=_named(objectives, rewards.mean_BK[i], rewards.judged_BK[i] & ~broken_BK[i]),
            gold=gold(record, texts[i]),
            swap_gap=_named(objectives, gap_BK[i], told_BK[i]),
            claims=caption_claims(record, texts[i]),
            unscored=tuple(
                name for name, left in zip(objectives, unscored_BK[i].tolist(), strict=True) if left
            ),
        )
        for i, (record, _) in enumerate(chosen)
    ]


def _named(objectives: Sequence[str], values_K: Tensor, kept_K: Tensor) -> dict[str, float]:
    return {name: float(values_K[k]) for k, name in enumerate(objectives) if kept_K[k]}


def caption_claims(record: PreferenceRecord, text: str) -> list[tuple[str, bool | None]] | None:
    """The pieces of a caption with their verdicts; None unless the record asks to describe one known
    scene."""
    asked = record.prompt[-1].text.strip()
    if len(record.scenes) != 1 or "answer" in record.reference or asked not in DESCRIBE:
        return None
    return [(verdict.text, verdict.true) for verdict in judge(text, Scene.from_json(record.scenes[0]))]


def summarise(name: str, objectives: Sequence[str], answers: Sequence[Answer], seed: int) -> PolicyEvaluation:
    """The measures over a policy's answers; `seed` draws the intervals."""

    def by_objective(values: Callable[[Answer], dict[str, float]]) -> dict[str, Estimate]:
        names = dict.fromkeys([*objectives, *(n for answer in answers for n in values(answer))])
        found = {n: estimate([values(a)[n] for a in answers if n in values(a)], seed) for n in names}
        return {n: e for n, e in found.items() if e}

    true, all_claims = claim_counts(answers)
    lengths = {
        group: estimate([float(a.tokens) for a in answers if group in ("all", a.modality)], seed)
        for group in ("all", "image-text", "text")
    }
    return PolicyEvaluation(
        name=name,
        objectives=tuple(objectives),
        learned=by_objective(lambda answer: answer.rewards),
        gold=by_objective(lambda answer: answer.gold),
        true_claims=ratio_with_interval(true, all_claims, seed) if sum(all_claims) else None,
        claims=estimate(all_claims, seed),
        length={group: found for group, found in lengths.items() if found},
        ended=estimate([float(answer.ended) for answer in answers], seed),
        swap_gap=by_objective(lambda answer: answer.swap_gap),
        answers=tuple(answers),
        unscored=dict(Counter(name for answer in answers for name in answer.unscored)),
    )


def claim_counts(answers: Sequence[Answer]) -> tuple[list[float], list[float]]:
    """The numbers of true claims and of all claims of each caption, in order."""
    captions = [answer.claims for answer in answers if answer.claims is not None]
    return [float(sum(t is True for _, t in c)) for c in captions], [float(len(c)) for c in captions]
