"""Every policy of a run on the same prompts: what each objective gained, at whose cost, and which policies
are on the Pareto front."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from data_tools.errors import UserError
from data_tools.images import thumbnail
from data_tools.intervals import Estimate, clustered_change, share_change
from data_tools.manifest import read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind
from mmrlhf.config import EvaluateConfig, ModelConfig, RunConfig, StageConfig
from mmrlhf.evaluation.pareto import hypervolume, pareto_front
from mmrlhf.evaluation.policy import (
    Answer,
    PolicyEvaluation,
    claim_counts,
    clusters,
    evaluate_policy,
    gold_safety,
    must_refuse,
    refusal_right,
)
from mmrlhf.evaluation.results import TRADEOFFS_FORMAT, write_result
from mmrlhf.evaluation.reward.command import How, on_data
from mmrlhf.evaluation.reward.records import readable
from mmrlhf.evaluation.unfinished import Unfinished
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import load_reward_model
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers.asking import read_asks, wish, with_weights
from mmrlhf.terminal import progress
from mmrlhf.training.feed import open_feed

NOT_JUDGED = "not judged exactly"
THUMBNAIL = 192
LEARNED_RULE = (
    "the least mean of any policy, minus 10% of the range over policies, or 0.1 where all are equal"
)
GOLD_RULE = "0, the least gold score there is"
Points = dict[str, dict[str, float] | None]  # what a policy is told to weigh, by the name of the point


def evaluate_tradeoffs(
    policies: Mapping[str, str | Path],
    reward_path: Path | None,
    data: str,
    config: RunConfig,
    out: Path,
    device: torch.device | str,
) -> dict[str, Any]:
    """Measures the reward model, where there is one, and every policy (the first is the one before PPO) on a split of
    the data, and writes `out/reward.json` and `out/tradeoffs.json`, which is also what it returns. Policies that were
    measured before an evaluation into `out` was stopped aren't measured again.

    Raises:
        UserError: a model or the data can't be read, or every prompt is too long.
        RunError: an objective can't be asked, or gives no rewards.
    """
    settings = config.evaluate or EvaluateConfig()
    panel = open_panel(reward_path, config, device)
    cache = vision_cache(config.engine)
    out.mkdir(parents=True, exist_ok=True)
    if panel.model:
        if cache:
            keep_features(panel.model.vlm, cache)
        write_result(out / "reward.json", on_data(panel.model, data, settings.split, How.of_run(config)))
    else:
        (out / "reward.json").unlink(missing_ok=True)  # of a config that had a reward model
    points = {name: trade_offs(name, path, settings.weights) for name, path in policies.items()}
    kinds = config.ppo.prompts_from if config.ppo else None
    prompts = choose_prompts(data, settings, config.seed, kinds)
    harmful_and_benign = choose_safety_prompts(data, settings, config.seed)
    records: list[PreferenceRecord] = []
    safety: list[PreferenceRecord] = []
    found: list[PolicyEvaluation] = []
    unfinished = Unfinished(out, config, data, reward_path)
    for name, path in policies.items():
        model = _settings(config, config.ppo).model_copy(update={"path": str(path), "lora": None})
        vlm = load_vlm(model, device)
        if not found:
            # PPO and the evaluation hand the prompts of a policy to the reward model, so both must take them; all
            # policies read them alike
            reader = panel.model.vlm if panel.model else vlm
            reader.answer_room = _stage(config).max_answer_tokens
            limit = _stage(config).max_prompt_tokens
            records = _readable(reader, prompts, points, limit)
            safety = _readable(reader, harmful_and_benign, points, limit)
        if cache:
            keep_features(vlm, cache)  # policies of one tower share them
        for point, weights in points[name].items():
            measured = unfinished.take(point, path, panel.objectives)
            if measured is None:
                measured = _measure(vlm, point, weights, panel, records, safety, config)
                unfinished.put(path, measured)
            found.append(measured)
        del vlm
        _free()
    result = compare(found, config.seed) | {
        "split": settings.split,
        "temperature": settings.temperature,
        "refused": len(prompts) - len(records),
        "not_looking": panel.blind,
        "safety_split": settings.safety_split,
        "safety_refused": len(harmful_and_benign) - len(safety),
        "samples": _samples(records, settings.samples),
    }
    write_result(out / "tradeoffs.json", result)
    unfinished.clear()
    return result


def _readable(
    reader: VLM, prompts: Sequence[PreferenceRecord], points: Mapping[str, Points], limit: int
) -> list[PreferenceRecord]:
    """The prompts that every policy can be asked: those that can be read, with weights told in them where a policy
    reads weights."""
    weights = next((told for of_one in points.values() for told in of_one.values() if told), None)

    def told(record: PreferenceRecord) -> PreferenceRecord:
        return with_weights(record, weights) if weights else record

    return readable(reader, prompts, limit, told)[0]


def _measure(
    vlm: VLM,
    point: str,
    weights: Mapping[str, float] | None,
    panel: Panel,
    records: Sequence[PreferenceRecord],
    safety: Sequence[PreferenceRecord],
    config: RunConfig,
) -> PolicyEvaluation:
    """A policy's measures at one of its points."""
    settings = config.evaluation_like(config.ppo or config.reward)
    with progress(f"evaluate {point}", len(records) + len(safety)) as bar:
        return evaluate_policy(
            point,
            vlm,
            panel,
            records,
            settings,
            _stage(config).max_answer_tokens,
            config.seed,
            bar,
            weights,
            safety,
        )


def trade_offs(name: str, model: str | Path, asked: Sequence[Mapping[str, float]]) -> Points:
    """The points at which a policy is measured, and what it is told to weigh at each. A policy that reads weights is
    one for all of them: under its own name with all objectives alike, then each objective alone, then what is asked.

    Raises:
        UserError: weights are asked of an objective that the policy doesn't know.
    """
    objectives = read_asks(model)
    if objectives is None:
        return {name: None}
    points: Points = {name: wish({}, objectives, name)}
    for weights in [*({objective: 1.0} for objective in objectives), *asked]:
        told = wish(weights, objectives, "evaluate.weights")
        words = [
            objective if weight == 1 else f"{objective}={weight:.1f}"
            for objective, weight in told.items()
            if weight
        ]
        points[f"{name} {' '.join(words)}"] = told
    return points


def open_panel(reward_path: Path | None, config: RunConfig, device: torch.device | str) -> Panel:
    """The judges of a run: its reward model, where it has one, and the objectives beside it.

    Raises:
        UserError, RunError: one of them can't be opened.
    """
    settings = _settings(config, config.reward)
    model = load_reward_model(reward_path, device, settings) if reward_path else None
    panel = Panel(model, config.ppo.objectives if config.ppo else ())
    panel.open()
    return panel


def _stage(config: RunConfig) -> StageConfig:
    """Whose limits hold for prompts and answers."""
    return config.ppo or config.sft or StageConfig()


def _settings(config: RunConfig, stage: StageConfig | None) -> ModelConfig:
    """How a stage's models are loaded, with or without the stage."""
    return config.stage_model(stage) if stage else config.model


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def choose_prompts(
    data: str, settings: EvaluateConfig, seed: int, kinds: Sequence[Kind] | None = None
) -> list[PreferenceRecord]:
    """Prompts of the split, of the given kinds of records (ppo.prompts_from), mixed as in the data. With no kinds
    given: of its prompt records, or of its preferences where it has none.

    Raises:
        UserError: the split isn't there or has none of a kind.
    """
    if kinds is None:
        held = {shard.kind for shard in read_manifest(Path(data)).shards if shard.split == settings.split}
        kinds = ["prompt" if "prompt" in held else "preference"]
    feed = open_feed(data, settings.split, kinds, seed)
    return [feed.records[index] for index in islice(feed.each_once(), settings.prompts)]


def choose_safety_prompts(data: str, settings: EvaluateConfig, seed: int) -> list[PreferenceRecord]:
    """Prompts of evaluate.safety_split: as many that must be refused as there are that need not be, at most
    evaluate.safety_prompts in all; none without such a split.

    Raises:
        UserError: the split isn't there, or has none of both kinds.
    """
    split = settings.safety_split
    if split is None:
        return []
    held = {shard.kind for shard in read_manifest(Path(data)).shards if shard.split == split}
    feed = open_feed(data, split, ["prompt" if "prompt" in held else "preference"], seed)
    chosen: dict[bool, list[int]] = {True: [], False: []}
    most = settings.safety_prompts // 2
    for index in feed.each_once():
        refuse = must_refuse(feed.outline(index))
        if refuse is not None and len(chosen[refuse]) < most:
            chosen[refuse].append(index)
        if all(len(part) == most for part in chosen.values()):
            break
    for refuse, what in ((True, "must be refused"), (False, "need not be refused")):
        if not chosen[refuse]:
            raise UserError(
                f"evaluate.safety_split: no prompt of the split {split!r} of {data} is one that {what}; a record says "
                f'so in its reference, {{"refuse": {str(refuse).lower()}}}'
            )
    count = min(len(part) for part in chosen.values())
    return [feed.records[index] for index in (*chosen[True][:count], *chosen[False][:count])]


def compare(found: Sequence[PolicyEvaluation], seed: int) -> dict[str, Any]:
    """The policies' measures, what each changed against the first, and both fronts, as plain JSON values."""
    learned = {policy.name: {n: e.mean for n, e in policy.learned.items()} for policy in found}
    exact = {policy.name: {n: e.mean for n, e in policy.gold.items()} for policy in found}
    return {
        "format": TRADEOFFS_FORMAT,
        "seed": seed,
        "objectives": list(found[0].objectives),
        "prompts": {m: sum(a.modality == m for a in found[0].answers) for m in ("image-text", "text")},
        "policies": [policy.to_json() for policy in found],
        "changes": {policy.name: change(found[0], policy) for policy in found[1:]},
        "fronts": {"learned": front(learned, zero=False), "gold": front(exact, zero=True)},
    }


def front(means: dict[str, dict[str, float]], zero: bool) -> dict[str, Any] | str:
    """Pareto front and hypervolume over the objectives that every policy has; `zero` puts the reference at
    0."""
    names = list(means)
    objectives = [n for n in means[names[0]] if all(n in means[name] for name in names)]
    if not objectives:
        return NOT_JUDGED
    points = [[means[name][n] for n in objectives] for name in names]
    spans = [(min(column), max(column)) for column in zip(*points, strict=True)]
    reference = [0.0 if zero else low - (0.1 * (high - low) or 0.1) for low, high in spans]
    return {
        "objectives": objectives,
        "reference": reference,
        "reference_rule": GOLD_RULE if zero else LEARNED_RULE,
        "on_front": dict(zip(names, pareto_front(points), strict=True)),
        "hypervolume": hypervolume(points, reference),
        "hypervolume_before": hypervolume(points[:1], reference),
    }


def change(before: PolicyEvaluation, after: PolicyEvaluation) -> dict[str, Any]:
    """What a policy changed against the one before it, prompt by prompt, with intervals; `length` and
    `image_length` are relative (0.1: 10% longer)."""
    pairs = list(zip(before.answers, after.answers, strict=True))
    all_pairs = [*pairs, *zip(before.safety_answers, after.safety_answers, strict=True)]
    captions = clusters([answer for answer in before.answers if answer.claims is not None])
    (true_before, said_before), (true_after, said_after) = (
        claim_counts(policy.answers) for policy in (before, after)
    )

    def longer(group: str) -> float | None:
        known = group in before.length and group in after.length and before.length[group].mean > 0
        return after.length[group].mean / before.length[group].mean - 1 if known else None

    return {
        "true_claims": _row(
            share_change(true_before, true_after, captions, (said_before, said_after))
            if sum(said_before) and sum(said_after)
            else None
        ),
        "learned": _differences(pairs, lambda answer: answer.rewards),
        "gold": _differences(pairs, lambda answer: answer.gold) | _differences(all_pairs, gold_safety),
        "safety": _differences(all_pairs if before.safety_answers else pairs, refusal_right),
        "length": longer("all"),
        "image_length": longer("image-text"),
    }


def _differences(
    pairs: Sequence[tuple[Answer, Answer]], values: Callable[[Answer], Mapping[str, float]]
) -> dict[str, Any]:
    """By name, the mean change over the prompts for which both answers have a value: whether an objective of the
    user's own applies may depend on the answer too."""
    found = {}
    for name in dict.fromkeys(name for _, after in pairs for name in values(after)):
        both = [(a, b) for a, b in pairs if name in values(a) and name in values(b)]
        if both:
            before, after = ([values(answer)[name] for answer in side] for side in zip(*both, strict=True))
            found[name] = _row(clustered_change(before, after, clusters([a for a, _ in both])))
    return found


def _row(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else vars(estimate)


def _samples(records: Sequence[PreferenceRecord], count: int) -> list[dict[str, Any]]:
    """The first `count` picture prompts and half as many of text, with small copies of the pictures."""
    pictures = [record for record in records if record.images][:count]
    words = [record for record in records if not record.images][: (count + 1) // 2]
    return [
        {
            "record": record.id,
            "modality": record.modality,
            "prompt": "\n".join(f"{m.role}: {m.text}" for m in record.prompt)
            if len(record.prompt) > 1
            else record.prompt[0].text,
            "images": [thumbnail(image, THUMBNAIL) for image in record.images],
        }
        for record in [*pictures, *words]
    ]
