"""What can be known to fail before anything is trained: a config that asks for what its data set doesn't hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_tools.errors import UserError
from data_tools.manifest import Manifest, read_manifest
from mmrlhf.config import RunConfig


def check_data(config: RunConfig, data: Path) -> None:
    """Compares every section of the config with the data set.

    Raises:
        UserError: one line a mistake, each with its key and what there is in its place.
    """
    manifest = read_manifest(data)
    mistakes = [*_kinds(config, manifest), *_objectives(config, manifest, data), *_split(config, manifest)]
    if mistakes:
        raise UserError("\n".join(f"{mistake} (data set: {data})" for mistake in mistakes))


def _kinds(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    held = _kinds_of(manifest, "train")
    asked: dict[str, Sequence[str]] = {
        "sft.learn_from": config.sft.learn_from if config.sft else (),
        "ppo.prompts_from": config.ppo.prompts_from if config.ppo else (),
    }
    for key, kinds in asked.items():
        if missing := [kind for kind in kinds if kind not in held]:
            yield f"{key}: the train split has no {', '.join(missing)} records; it has {_list(held)}"


def _objectives(config: RunConfig, manifest: Manifest, data: Path) -> Iterator[str]:
    if not config.reward:
        return
    compared = _compared(manifest, data)
    if missing := [name for name in config.reward.objectives if name not in compared]:
        yield (
            f"reward.objectives: no training record compares two answers on {', '.join(missing)}; compared are "
            f"{_list(compared)}"
        )


def _split(config: RunConfig, manifest: Manifest) -> Iterator[str]:
    """The evaluation scores preferences, and answers the kinds of prompts that PPO does."""
    if not config.evaluate:
        return
    split = config.evaluate.split
    held = _kinds_of(manifest, split)
    if not held:
        splits = {shard.split for shard in manifest.shards}
        yield f"evaluate.split: there is no split {split!r}; there are {_list(splits)}"
        return
    asked: set[str] = {"preference"} if config.reward else set()
    asked |= set(config.ppo.prompts_from if config.ppo else ())
    if missing := sorted(asked - held):
        yield (
            f"evaluate.split: the {split} split has no {', '.join(missing)} records; it has {_list(held)}. The "
            "evaluation needs preferences for the reward model, and the kinds of ppo.prompts_from"
        )


def _kinds_of(manifest: Manifest, split: str) -> set[str]:
    return {shard.kind for shard in manifest.shards if shard.split == split}


def _compared(manifest: Manifest, data: Path) -> set[str]:
    """The objectives of training comparisons. The manifest counts ratings among them, from which no head learns; the
    statistics that a build writes tell them apart."""
    try:
        counts = json.loads((data / "stats.json").read_text(encoding="utf-8"))["objectives"].get("train", {})
        return {name for name, count in counts.items() if count["comparisons"]}
    except FileNotFoundError:
        return {name for shard in manifest.shards if shard.split == "train" for name in shard.objectives}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{data / 'stats.json'}: is damaged; build the data again") from error


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
