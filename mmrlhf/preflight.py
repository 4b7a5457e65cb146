"""What can be known to fail before anything is trained: a config that asks for what its data set doesn't hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.errors import UserError
from data_tools.manifest import Manifest, ShardInfo, read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records
from mmrlhf.config import AdaptiveMixture, PpoConfig, RewardConfig, RunConfig
from mmrlhf.config.base import set_otherwise
from mmrlhf.config.metric_names import MODALITIES, OF_LABELS
from mmrlhf.rewards.scalarizers import SafetyGate
from mmrlhf.rl.trial import silent_objectives, try_plugins


def check_data(config: RunConfig, data: Path) -> list[str]:
    """Compares every section of the config with the data set; what it answers may be meant, and is worth a word.

    Raises:
        UserError: one line a mistake, each with its key and what there is in its place.
    """
    manifest = read_manifest(data)
    mistakes = [
        *_kinds(config, manifest),
        *_objectives(config, manifest),
        *_sources(config, manifest),
        *_metrics(config, manifest),
        *_split(config, manifest),
    ]
    if not mistakes and config.ppo:
        mistakes = list(_silent(config.ppo, data))
    if mistakes:
        raise UserError("\n".join(f"{mistake} (data set: {data})" for mistake in mistakes))
    if config.ppo and (failed := list(try_plugins(config.ppo, config.objectives))):
        raise UserError("\n".join(failed))
    return [*_unlearnt(config, manifest), *_few(config, manifest), *_unjudged(config, manifest)]


def _unlearnt(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """Preferences from which no head learns; the gate may learn from them."""
    if not (reward := config.reward):
        return
    gate = reward.gate.objective if reward.gate else None
    others: Counter[tuple[str, str]] = Counter()
    for shard in _train(manifest):
        teaches = _learnt(reward, [shard]) & set(reward.objectives) or gate in shard.judged
        if shard.kind == "preference" and not teaches:
            others[shard.source, _list(shard.judged)] += shard.records
    for (source, judged), records in sorted(others.items()):
        yield (
            f"reward.objectives: no head learns from the {records} training records of {source}, which judge "
            f"{judged}; they take their share of each batch. Leave the source out where that isn't meant"
        )


def _sources(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """An adaptive mixture has shares to change between sources, by what the image tells."""
    if not (config.reward and isinstance(config.reward.mixture, AdaptiveMixture)):
        return
    shards = [shard for shard in _train(manifest) if shard.kind == "preference"]
    sources = {shard.source for shard in shards}
    if len(sources) < 2 or not any(shard.modality == "image-text" for shard in shards):
        yield (
            "reward.mixture: adaptive changes nothing here: it needs training preferences of two sources or more, some "
            f"with images; there is {_list(sources)}. Set it to fixed"
        )


def _metrics(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """A best_by whose metric hangs on labels, or on a kind of prompts, that the data set doesn't hold."""
    train = _train(manifest)
    if config.reward and config.reward.best_by:
        metric, _, objective = config.reward.best_by.removeprefix("-").partition("/")
        kinds = [kind for kind, metrics in OF_LABELS.items() if metric in metrics]
        if kinds and objective not in _labels(train)[kinds[0]]:
            yield (
                f"reward.best_by: no training record has a {kinds[0]} label on {objective}, so there is no "
                f"{metric}/{objective}"
            )
    if config.ppo and config.ppo.best_by:
        name = config.ppo.best_by.removeprefix("-")
        held = {shard.modality for shard in train if shard.kind in config.ppo.prompts_from}
        ends = name.rpartition("/")[2]
        needed = "image-text" if name.startswith("swap_gap/") else ends if ends in MODALITIES else None
        if needed and needed not in held:
            yield f"ppo.best_by: no prompt is of modality {needed}, so there is no {name}"


def _silent(config: PpoConfig, data: Path) -> Iterator[str]:
    """Objectives beside the heads that apply to no prompt, and flags that none has."""
    sets = [open_records(data, "train", kind=kind) for kind in config.prompts_from]

    def prompts() -> Iterator[PreferenceRecord]:
        return (each.outline(i) for each in sets for i in range(len(each)))

    if config.objectives:
        yield from silent_objectives(config.objectives, prompts())
    for variant in config.variants:
        gate = variant.scalarizer
        asks = isinstance(gate, SafetyGate) and gate.flag and set_otherwise(gate, "flag")
        if asks and not any(map(gate.flags, prompts())):
            yield (
                f"ppo.variants: {variant.name}: flag: no prompt of the train split has {gate.flag} as true in its "
                "reference or provenance, so none is flagged; name another key, or leave flag out"
            )


def _scales(reward: RewardConfig, train: Sequence[ShardInfo]) -> tuple[list[str], dict[str, set[str]]]:
    """What to say of heads that too few records judge on any kind of prompt; and of the others, by modality, those that
    too few judge there. Counts at most: a record may hold several labels."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in reward.objectives}
    for shard in train:
        for name in _learnt(reward, [shard]) & counts.keys():
            labels = sum(part.get(name, 0) for part in (shard.objectives, shard.ratings, shard.rankings))
            counts[name][shard.modality] += min(labels, shard.records)
    mistakes: list[str] = []
    few: dict[str, set[str]] = {modality: set() for modality in MODALITIES}
    for name, of in counts.items():
        short = [modality for modality, count in of.items() if count < reward.min_norm_records]
        if of and len(short) == len(of):
            told = " and ".join(f"{of[modality]} of modality {modality}" for modality in sorted(short))
            mistakes.append(
                f"reward.min_norm_records: {name} is judged on {told} training records, and a scale of its rewards "
                f"takes {reward.min_norm_records} of one modality; add such labels, leave it out of reward.objectives, "
                "or set it lower to try things out"
            )
        else:
            for modality in short:
                few[modality].add(name)
    return mistakes, few


def _few(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """Heads that will abstain on a kind of prompt that they learn from."""
    if not config.reward:
        return
    for modality, names in _scales(config.reward, _train(manifest))[1].items():
        if names:
            yield (
                f"reward.min_norm_records: {_list(names)} will abstain on prompts of modality {modality}, since fewer "
                f"than {config.reward.min_norm_records} training records judge it there, which tell no scale. Add such "
                "labels, or leave these out"
            )


def _unjudged(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """Kinds of prompts on which no head learns, where nothing else judges them; and heads that learn on no kind of
    prompt there is."""
    if not (config.ppo and config.reward):
        return
    train = _train(manifest)
    heads = set(config.reward.objectives)
    few = _scales(config.reward, train)[1]
    learnt = {
        modality: (heads & _learnt(config.reward, [s for s in train if s.modality == modality]))
        - few[modality]
        for modality in sorted({shard.modality for shard in train if shard.kind in config.ppo.prompts_from})
    }
    for modality, names in learnt.items():
        if not names and not config.ppo.objectives:
            yield (
                f"ppo.prompts_from: no objective is judged often enough on prompts of modality {modality}, so answers "
                "to them are left out (the metric unjudged) and teach nothing. Leave such prompts out, which saves "
                "their sampling"
            )
    for name in config.reward.objectives:
        if learnt and not any(name in names for names in learnt.values()):
            yield (
                f"reward.objectives: {name} isn't judged on enough records of modality {' or '.join(learnt)}, which "
                "are those of ppo.prompts_from, so it doesn't count in PPO"
            )


def _kinds(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    held = _kinds_of(manifest, "train")
    asked: dict[str, Sequence[str]] = {
        "sft.learn_from": config.sft.learn_from if config.sft else (),
        "ppo.prompts_from": config.ppo.prompts_from if config.ppo else (),
        "ppo.ptx_coef": ("demonstration",) if config.ppo and config.ppo.ptx_coef else (),
    }
    for key, kinds in asked.items():
        if missing := [kind for kind in kinds if kind not in held]:
            yield f"{key}: the train split has no {', '.join(missing)} records; it has {_list(held)}"


def _objectives(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    if not (reward := config.reward):
        return
    train = _train(manifest)
    judged = {name for shard in train for name in shard.judged}
    if missing := [name for name in reward.objectives if name not in judged]:
        yield (
            f"reward.objectives: no training record judges anything on {', '.join(missing)}; judged are {_list(judged)}"
        )
    learnt = _learnt(reward, train)
    for name in reward.objectives:
        if name in judged and name not in learnt:
            kinds = {kind for kind, names in _labels(train).items() if name in names}
            yield (
                f"reward.weights: {name} can't be learnt; on it training records hold {_list(kinds)} labels, which "
                "weigh 0"
            )
    yield from _scales(reward, train)[0]
    yield from _cost_heads(reward, train)
    yield from _grounding(reward, train)
    compared = {name for shard in train for name in (*shard.objectives, *shard.rankings)}
    if (gate := reward.gate) and gate.objective not in compared:
        yield (
            f"reward.gate.objective: no training record compares answers on {gate.objective}; compared are "
            f"{_list(compared)}"
        )


def _cost_heads(reward: RewardConfig, train: Sequence[ShardInfo]) -> Iterator[str]:
    """The 0 of a cost head is set by yes or no, on prompts with images and on those of text apart."""
    for modality in sorted({shard.modality for shard in train}):
        shards = [shard for shard in train if shard.modality == modality]
        signed = _labels(shards)["binary"] if reward.weights.binary else set()
        unsigned = [name for name in reward.cost_heads if name in _learnt(reward, shards) - signed]
        if unsigned:
            yield (
                f"reward.cost_heads: no training record of modality {modality} says yes or no on "
                f"{', '.join(unsigned)} with a weight (reward.weights.binary) above 0, so nothing says where its 0 "
                "lies there; add such labels, or take it off the list"
            )


def _grounding(reward: RewardConfig, train: Sequence[ShardInfo]) -> Iterator[str]:
    """Terms of comparisons, which do nothing where there are none."""
    pictures = [shard for shard in train if shard.modality == "image-text"]
    terms = reward.grounding
    compared = {
        "margin_scale": (reward.margin_scale, train, "training record"),
        "grounding.length": (terms.length, train, "training record"),
        "grounding.reweight.weight": (terms.reweight.weight, pictures, "training record with images"),
    }
    for key, (weight, shards, what) in compared.items():
        if weight and not _compared(reward, shards, "pair") & set(reward.objectives):
            yield (
                f"reward.{key}: must be 0, since no {what} compares two responses on a learnt objective with a weight "
                "(reward.weights.pair) above 0; rankings don't count here"
            )
    conditional = terms.image_conditional
    asked = set(conditional.objectives or reward.objectives)
    if conditional.weight and not _compared(reward, pictures, "pair", "ranking") & asked:
        yield (
            "reward.grounding.image_conditional.weight: must be 0, since no training record with images compares "
            f"responses on {_list(asked)} with a weight (reward.weights) above 0"
        )


def _compared(reward: RewardConfig, shards: Sequence[ShardInfo], *kinds: str) -> set[str]:
    """The objectives of labels of these kinds, as far as they weigh something."""
    return set().union(*(_labels(shards)[kind] for kind in kinds if getattr(reward.weights, kind)))


def _labels(shards: Sequence[ShardInfo]) -> dict[str, set[str]]:
    """By the kinds of labels that `reward.weights` names: the objectives on which there may be any. A manifest of an
    older version doesn't tell ratings on a scale from yes or no."""
    found: dict[str, set[str]] = {"pair": set(), "ranking": set(), "rating": set(), "binary": set()}
    for shard in shards:
        found["pair"] |= set(shard.objectives)
        found["ranking"] |= set(shard.rankings)
        binaries = shard.ratings if shard.binaries is None else shard.binaries
        scalars = shard.ratings if shard.binaries is None else Counter(shard.ratings) - Counter(binaries)
        found["binary"] |= set(binaries)
        found["rating"] |= set(scalars)
    return found


def _learnt(reward: RewardConfig, shards: Sequence[ShardInfo]) -> set[str]:
    """The objectives on which there are labels of a kind that weighs something."""
    weights = reward.weights.model_dump()
    return {name for kind, names in _labels(shards).items() if weights[kind] for name in names}


def _split(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """The evaluation scores preferences, and answers the kinds of prompts that PPO does."""
    if not config.evaluate:
        return
    split, safety = config.evaluate.split, config.evaluate.safety_split
    if safety is not None and not _kinds_of(manifest, safety):
        yield f"evaluate.safety_split: {_no_split(safety, manifest)}"
    held = _kinds_of(manifest, split)
    if not held:
        yield f"evaluate.split: {_no_split(split, manifest)}"
        return
    asked: set[str] = {"preference"} if config.reward else set()
    asked |= set(config.ppo.prompts_from if config.ppo else ())
    if missing := sorted(asked - held):
        yield (
            f"evaluate.split: the {split} split has no {', '.join(missing)} records; it has {_list(held)}. The "
            "evaluation needs preferences for the reward model, and the kinds of ppo.prompts_from"
        )


def _no_split(split: str, manifest: Manifest) -> str:
    """That there is no such split, why, and what to do."""
    splits = {shard.split for shard in manifest.shards}
    return (
        f"there is no split {split!r}; there are {_list(splits)}: no source puts records there, or those that are few "
        f"all fell elsewhere. Give a source of the data {split!r} among its splits, such as splits: {{train: 0.9, "
        f"{split}: 0.1}}, and build it anew, or name a split that there is"
    )


def _train(manifest: Manifest) -> list[ShardInfo]:
    return [shard for shard in manifest.shards if shard.split == "train"]


def _kinds_of(manifest: Manifest, split: str) -> set[str]:
    return {shard.kind for shard in manifest.shards if shard.split == split}


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
