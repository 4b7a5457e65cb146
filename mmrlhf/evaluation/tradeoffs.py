"""Every policy of a run on the same prompts: what each objective gained, at whose cost, and which policies
are on the Pareto front."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from data_tools.atomic import write_text
from data_tools.images import thumbnail
from data_tools.intervals import paired_difference, paired_ratio_difference
from data_tools.manifest import read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import Kind
from mmrlhf.config import EvaluateConfig, ModelConfig, RunConfig, StageConfig
from mmrlhf.evaluation.pareto import hypervolume, pareto_front
from mmrlhf.evaluation.policy import PolicyEvaluation, claim_counts, evaluate_policy
from mmrlhf.evaluation.reward.command import How, on_data
from mmrlhf.evaluation.reward.records import readable
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import load_reward_model
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers.asking import read_asks, wish, with_weights
from mmrlhf.terminal import progress
from mmrlhf.training.feed import open_feed

FORMAT = 1
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
    the data, and writes `out/reward.json` and `out/tradeoffs.json`, which is also what it returns.

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
        _write(out / "reward.json", on_data(panel.model, data, settings.split, How.of_run(config)))
    else:
        (out / "reward.json").unlink(missing_ok=True)  # of a config that had a reward model
    points = {name: trade_offs(name, path, settings.weights) for name, path in policies.items()}
    kinds = config.ppo.prompts_from if config.ppo else None
    prompts = choose_prompts(data, settings, config.seed, kinds)
    records: list[PreferenceRecord] = []
    found: list[PolicyEvaluation] = []
    for name, path in policies.items():
        model = _settings(config, config.ppo).model_copy(update={"path": str(path), "lora": None})
        vlm = load_vlm(model, device)
        if not found:
            # PPO and the evaluation hand the prompts of a policy to the reward model, so both must take them; all
            # policies read them alike
            reader = panel.model.vlm if panel.model else vlm
            reader.answer_room = _stage(config).max_answer_tokens
            records = _readable(reader, prompts, points, _stage(config).max_prompt_tokens)
        if cache:
            keep_features(vlm, cache)  # policies of one tower share them
        found += _at_points(vlm, points[name], panel, records, config)
        del vlm
        _free()
    result = compare(found, config.seed) | {
        "split": settings.split,
        "temperature": settings.temperature,
        "refused": len(prompts) - len(records),
        "samples": _samples(records, settings.samples),
    }
    _write(out / "tradeoffs.json", result)
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


def _at_points(
    vlm: VLM, points: Points, panel: Panel, records: Sequence[PreferenceRecord], config: RunConfig
) -> Iterator[PolicyEvaluation]:
    """A policy's measures at each of its points."""
    settings = config.evaluate or EvaluateConfig()
    for point, weights in points.items():
        with progress(f"evaluate {point}", len(records)) as bar:
            yield evaluate_policy(
                point,
                vlm,
                panel,
                records,
                settings,
                _stage(config).max_answer_tokens,
                config.seed,
                bar,
                weights,
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


def _write(path: Path, row: dict[str, Any]) -> None:
    write_text(path, json.dumps(row, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


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


def compare(found: Sequence[PolicyEvaluation], seed: int) -> dict[str, Any]:
    """The policies' measures, what each changed against the first, and both fronts, as plain JSON values."""
    learned = {policy.name: {n: e.mean for n, e in policy.learned.items()} for policy in found}
    exact = {policy.name: {n: e.mean for n, e in policy.gold.items()} for policy in found}
    return {
        "format": FORMAT,
        "seed": seed,
        "objectives": list(found[0].objectives),
        "prompts": {m: sum(a.modality == m for a in found[0].answers) for m in ("image-text", "text")},
        "policies": [policy.to_json() for policy in found],
        "changes": {policy.name: change(found[0], policy, seed) for policy in found[1:]},
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


def change(before: PolicyEvaluation, after: PolicyEvaluation, seed: int) -> dict[str, Any]:
    """What a policy changed against the one before it, prompt by prompt, with intervals; `length` and
    `image_length` are relative (0.1: 10% longer)."""
    pairs = list(zip(before.answers, after.answers, strict=True))

    def differences(kind: str) -> dict[str, Any]:
        # whether an objective of the user's own applies may depend on the answer too
        values = [(getattr(b, kind), getattr(a, kind)) for b, a in pairs]
        found = {}
        for name in dict.fromkeys(name for _, a in values for name in a):
            both = [(b[name], a[name]) for b, a in values if name in a and name in b]
            if both:
                found[name] = vars(paired_difference([x for x, _ in both], [y for _, y in both], seed))
        return found

    counts_before, counts_after = claim_counts(before.answers), claim_counts(after.answers)
    both_claim = sum(counts_before[1]) and sum(counts_after[1])

    def longer(group: str) -> float | None:
        known = group in before.length and group in after.length and before.length[group].mean > 0
        return after.length[group].mean / before.length[group].mean - 1 if known else None

    return {
        "true_claims": vars(paired_ratio_difference(counts_before, counts_after, seed))
        if both_claim
        else None,
        "learned": differences("rewards"),
        "gold": differences("gold"),
        "length": longer("all"),
        "image_length": longer("image-text"),
    }


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
