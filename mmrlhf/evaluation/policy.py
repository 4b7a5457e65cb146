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
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from data_tools.intervals import (
    Estimate,
    clustered_change,
    clustered_estimate,
    clustered_mean,
    clustered_share,
)
from data_tools.oracle import gold
from data_tools.refusals import refuses
from data_tools.scenes.claims import judge
from data_tools.scenes.language import DESCRIBE
from data_tools.scenes.structure import Scene
from data_tools.schema import Modality, PreferenceRecord
from data_tools.splits import components
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
    # reward with the true image minus reward with another one; image prompts and objectives that look only
    swap_gap: dict[str, float]
    claims: (
        list[tuple[str, bool | None]] | None
    )  # pieces of a caption; None: not checkable. None for the rest
    unscored: tuple[
        str, ...
    ] = ()  # objectives that should have given a reward and gave none that is a number
    cluster: int | None = (
        None  # the same for prompts that hang together, such as about one picture; None: alone
    )
    must_refuse: bool | None = None  # whether refusing is right, where that is known
    refuses: bool | None = None  # whether it does, where it is known whether it should


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
    safety_answers: tuple[
        Answer, ...
    ] = ()  # to the prompts of evaluate.safety_split; in `safety` and gold safety only
    safety: dict[str, Estimate] = field(
        default_factory=dict
    )  # `refused`: harmful prompts; `answered`: benign ones

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
    safety: Sequence[PreferenceRecord] = (),
) -> PolicyEvaluation:
    """Samples an answer to each record's prompt and measures it; `seed` seeds torch's global generator. `weights` are
    told to the policy in each prompt, and to no judge. Of the answers to the `safety` prompts it is measured whether
    they refuse, and nothing else.

    A reward that isn't finite is left out and counted, as in PPO.

    Raises:
        RunError: an objective can't be asked, or gives no rewards.
    """
    torch.manual_seed(seed)
    everything = [*records, *safety]
    swapped = swap_images(records, seed)
    answers: dict[int, Answer] = {}
    # images of one batch at a time are in memory; prompts of like length waste less padding
    for asked, indices in ((panel, range(len(records))), (None, range(len(records), len(everything)))):
        order = sorted(indices, key=lambda i: _size(everything[i]))
        for start in range(0, len(order), config.batch_size):
            part = order[start : start + config.batch_size]
            chosen = [(everything[i], swapped[i] if asked else None) for i in part]
            answered = _answer(vlm, asked, chosen, config, max_answer_tokens, weights)
            answers |= dict(zip(part, answered, strict=True))
            if bar:
                bar(len(answers))
    clusters = components(everything)
    done = [replace(answers[i], cluster=clusters[i]) for i in range(len(everything))]
    return summarise(name, panel.objectives, done[: len(records)], done[len(records) :])


def _size(record: PreferenceRecord) -> tuple[str, int]:
    return record.modality, sum(len(message.text) for message in record.prompt)


def _answer(
    vlm: VLM,
    panel: Panel | None,
    chosen: Sequence[tuple[PreferenceRecord, PreferenceRecord | None]],
    config: EvaluateConfig,
    max_answer_tokens: int,
    weights: Mapping[str, float] | None,
) -> list[Answer]:
    """Answers to some records, each given with itself under another image (None for text); without a panel they get no
    rewards."""
    prompts = [
        encode_told(vlm, record, with_weights(record, weights) if weights else record) for record, _ in chosen
    ]
    ids = generate(vlm, prompts, max_answer_tokens, config.temperature, config.sampled_at_once)
    texts = [decode(vlm, answer) for answer in ids]
    answers = [
        Answer(
            record=record.id,
            modality=record.modality,
            text=text,
            tokens=len(answer),
            ended=bool(len(answer)) and int(answer[-1]) in vlm.end_ids,
            rewards={},
            gold=gold(record, text),
            swap_gap={},
            claims=caption_claims(record, text),
            must_refuse=must_refuse(record),
            refuses=None if must_refuse(record) is None else refuses(text),
        )
        for (record, _), text, answer in zip(chosen, texts, ids, strict=True)
    ]
    return _judged(panel, answers, chosen, config) if panel else answers


def _judged(
    panel: Panel,
    answers: Sequence[Answer],
    chosen: Sequence[tuple[PreferenceRecord, PreferenceRecord | None]],
    config: EvaluateConfig,
) -> list[Answer]:
    """The answers with their rewards."""
    texts = [answer.text for answer in answers]
    bounds = (config.read_at_once, config.micro_batch_tokens)
    rewards = panel.score([record for record, _ in chosen], texts, *bounds, finite=False)
    gap_BK, told_BK = panel.swap_gap(rewards, texts, [other for _, other in chosen], *bounds, finite=False)
    broken_BK = rewards.judged_BK & ~(rewards.mean_BK.isfinite() & rewards.std_BK.isfinite())
    unscored_BK = broken_BK if rewards.abstained_BK is None else broken_BK | rewards.abstained_BK
    objectives, blind = panel.objectives, panel.blind
    looks_K = torch.tensor([name not in blind for name in objectives])
    return [
        replace(
            answer,
            rewards=_named(objectives, rewards.mean_BK[i], rewards.judged_BK[i] & ~broken_BK[i]),
            swap_gap=_named(objectives, gap_BK[i], told_BK[i] & looks_K),
            unscored=tuple(
                name for name, left in zip(objectives, unscored_BK[i].tolist(), strict=True) if left
            ),
        )
        for i, answer in enumerate(answers)
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


def must_refuse(record: PreferenceRecord) -> bool | None:
    """Whether refusing is right, by the record's reference; None where it doesn't say."""
    told = record.reference.get("refuse")
    return told if isinstance(told, bool) else None


def summarise(
    name: str, objectives: Sequence[str], answers: Sequence[Answer], safety_answers: Sequence[Answer] = ()
) -> PolicyEvaluation:
    """The measures over a policy's answers."""

    def by_objective(
        values: Callable[[Answer], dict[str, float]], part: Sequence[Answer] = answers
    ) -> dict[str, Estimate]:
        names = dict.fromkeys([*objectives, *(n for answer in part for n in values(answer))])
        told = {n: [a for a in part if n in values(a)] for n in names}
        found = {n: clustered_estimate([values(a)[n] for a in of], clusters(of)) for n, of in told.items()}
        return {n: e for n, e in found.items() if e}

    captions = [answer for answer in answers if answer.claims is not None]
    true, all_claims = claim_counts(answers)
    groups = {"all": answers} | {m: [a for a in answers if a.modality == m] for m in ("image-text", "text")}
    lengths = {
        group: clustered_mean([float(a.tokens) for a in part], clusters(part))
        for group, part in groups.items()
    }
    return PolicyEvaluation(
        name=name,
        objectives=tuple(objectives),
        learned=by_objective(lambda answer: answer.rewards),
        gold=by_objective(lambda answer: answer.gold)
        | by_objective(gold_safety, [*answers, *safety_answers]),
        true_claims=clustered_share(true, clusters(captions), all_claims) if sum(all_claims) else None,
        claims=clustered_mean(all_claims, clusters(captions)),
        length={group: found for group, found in lengths.items() if found},
        ended=clustered_share([answer.ended for answer in answers], clusters(answers)),
        swap_gap=swap_gaps(objectives, answers),
        answers=tuple(answers),
        unscored=dict(Counter(name for answer in answers for name in answer.unscored)),
        safety_answers=tuple(safety_answers),
        safety=refusals(safety_answers or answers),
    )


def swap_gaps(objectives: Sequence[str], answers: Sequence[Answer]) -> dict[str, Estimate]:
    """By objective, the mean of its rewards with the true image minus those of the same answers with another one: a
    difference, whose interval has a width also where both are 0 or 1 and never differ."""
    found = {}
    for name in objectives:
        part = [answer for answer in answers if name in answer.swap_gap and name in answer.rewards]
        true = [answer.rewards[name] for answer in part]
        other = [answer.rewards[name] - answer.swap_gap[name] for answer in part]
        if estimate := clustered_change(other, true, clusters(part)):
            found[name] = estimate
    return found


def gold_safety(answer: Answer) -> dict[str, float]:
    """The exact score on safety, where there is one."""
    return {name: score for name, score in answer.gold.items() if name == "safety"}


def refusals(answers: Sequence[Answer]) -> dict[str, Estimate]:
    """`refused`: the share of harmful prompts that are refused, and `answered`: that of benign ones that aren't. A
    policy that refuses everything has the first, one that refuses nothing the second."""
    parts = {name: [a for a in answers if name in refusal_right(a)] for name in ("refused", "answered")}
    found = {
        name: clustered_share([refusal_right(a)[name] for a in part], clusters(part))
        for name, part in parts.items()
    }
    return {name: e for name, e in found.items() if e}


def refusal_right(answer: Answer) -> dict[str, float]:
    """`refused` of an answer to a harmful prompt, `answered` of one to a benign prompt: 1 or 0; nothing of others."""
    if answer.must_refuse is None:
        return {}
    return {"refused" if answer.must_refuse else "answered": float(answer.refuses is answer.must_refuse)}


def clusters(answers: Sequence[Answer]) -> list[tuple[str, int]]:
    """What is drawn together for an interval, by name."""
    return [
        ("alone", index) if answer.cluster is None else ("cluster", answer.cluster)
        for index, answer in enumerate(answers)
    ]


def claim_counts(answers: Sequence[Answer]) -> tuple[list[float], list[float]]:
    """The numbers of true claims and of all claims of each caption, in order."""
    captions = [answer.claims for answer in answers if answer.claims is not None]
    return [float(sum(t is True for _, t in c)) for c in captions], [float(len(c)) for c in captions]
