"""Checkpoints: safetensors and JSON only, whole or not there at all.

A checkpoint is written into a temporary folder, synced, and renamed; `state.json`, with the hash of every other file,
is written last. A damaged or half-copied one is told of and skipped, and the one before it is used. It holds the
metrics up to its step, too, from which those of the stage are restored where they were changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data_tools.atomic import put_folder
from data_tools.errors import UserError
from mmrlhf.file_hashes import hash_file
from mmrlhf.terminal import console

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError)
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from: everything that decides a number after `step`."""

    step: int  # steps that are done
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    stage: dict[str, Any]  # the stage's own state, plain JSON values
    records: dict[str, str] = field(default_factory=dict)  # what was measured up to here: text by file name
    # which checkpoint is the best so far, by what value
    best: dict[str, Any] = field(default_factory=lambda: {"step": None, "value": 0.0, "sum": 0.0, "count": 0})


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Writes `folder/step-N` and deletes all but the newest `keep` and the best one.

    Raises:
        UserError: the disk is full or can't be written; earlier checkpoints stay.
    """
    final = folder / f"step-{checkpoint.step:06d}"
    partial = folder / f".step-{checkpoint.step:06d}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        scalars = _split(checkpoint.optimizer, "", tensors)
        save_file({k: v.cpu().contiguous() for k, v in checkpoint.weights.items()}, partial / WEIGHTS)
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, partial / OPTIMIZER)
        state = {
            "step": checkpoint.step,
            "optimizer": scalars,
            "stage": checkpoint.stage,
            "best": checkpoint.best,
        }
        for name, text in checkpoint.records.items():
            (partial / name).write_text(text, encoding="utf-8")
        state["sha256"] = {
            name: hash_file(partial / name) for name in (WEIGHTS, OPTIMIZER, *checkpoint.records)
        }
        (partial / STATE).write_text(json.dumps({**state, "seal": _seal(state)}))
        put_folder(partial, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{final}: can't write the checkpoint ({why}); free some space and --resume"
        ) from error
    for old in _by_step(folder)[:-keep]:
        if _step_of(old) != checkpoint.best["step"]:
            shutil.rmtree(old, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint; tells of damaged ones that it passes over. None where there is none."""
    paths = _by_step(folder)
    for number, path in reversed(list(enumerate(paths))):
        try:
            return _load(path)
        except DAMAGE as error:
            then = "the one before it is used" if number else "there is none before it"
            console.print(f"checkpoint {path} is damaged ({error}); {then}", style="yellow", soft_wrap=True)
    return None


def has_step(folder: Path, step: int) -> bool:
    """Whether a step's checkpoint is there."""
    return step in map(_step_of, _by_step(folder))


def weights_at(folder: Path, step: int) -> dict[str, Tensor]:
    """The weights of one checkpoint.

    Raises:
        UserError: it is damaged.
    """
    path = folder / f"step-{step:06d}"
    try:
        return _load(path).weights
    except DAMAGE as error:
        raise UserError(f"{path}: the best checkpoint is damaged ({error}); train without best_by") from error


def _by_step(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if path.name[5:].isdecimal()]
    return sorted(found, key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name[5:])


def _load(path: Path) -> Checkpoint:
    state = json.loads((path / STATE).read_text())
    if state.pop("seal") != _seal(state):
        raise ValueError(f"{STATE} isn't as it was written")
    for name, expected in state["sha256"].items():
        if hash_file(path / name) != expected:
            raise ValueError(f"{name} doesn't have the hash it was written with")
    tensors = load_file(path / OPTIMIZER)
    return Checkpoint(
        step=state["step"],
        weights=load_file(path / WEIGHTS),
        optimizer=_merge(state["optimizer"], tensors),
        stage=state["stage"],
        best=state["best"],
        records={
            name: (path / name).read_text(encoding="utf-8")
            for name in state["sha256"]
            if name not in (WEIGHTS, OPTIMIZER)
        },
    )


def _seal(state: dict[str, Any]) -> str:
    """A hash of the state's values: JSON is written alike before and after it was read."""
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON with each tensor replaced by its place in `tensors`; dictionaries keep integer keys."""
    if isinstance(value, Tensor):
        # once each: parameters share tensors in 8-bit optimizers, which a safetensors file refuses
        known = next((name for name, tensor in tensors.items() if tensor is value), path)
        tensors[known] = value
        return {"tensor": known}
    if isinstance(value, dict):
        return {"dict": [[key, _split(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_split(item, f"{path}/{index}", tensors) for index, item in enumerate(value)]}
    return value


def _merge(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "list" in value:
        return [_merge(item, tensors) for item in value["list"]]
    return {key: _merge(item, tensors) for key, item in value["dict"]}


def restore_weights(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies a checkpoint's weights into the trainable parameters.

    Raises:
        UserError: the names or shapes differ from what this config trains.
    """
    own = {name: value for name, value in module.named_parameters() if value.requires_grad}
    if set(own) != set(weights) or any(own[name].shape != value.shape for name, value in weights.items()):
        odd = sorted(set(own) ^ set(weights))[:3] or ["a shape"]
        raise UserError(f"the checkpoint was made with another config or model (differs in {', '.join(odd)})")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
