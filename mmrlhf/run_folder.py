"""What a run's folder says of its stages: what each was made of, whether it is done, and its model.

Every file appears whole or not at all. What a stage was made of is everything that decides its numbers; a stage is used
again only where that is still so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from data_tools.atomic import put_folder, write_text
from data_tools.config import dump_yaml
from data_tools.errors import UserError
from data_tools.manifest import MANIFEST
from mmrlhf.config import RunConfig
from mmrlhf.file_hashes import hash_file, write_hashes

EARLIER = "after"  # the key under which a stage keeps the fingerprints of those it was made from
METRICS = "metrics.jsonl"
SHOWN = 4  # differing settings in a message


def make_folder(folder: Path) -> None:
    """Makes a folder; raises UserError where it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror}); choose another output_dir") from error


def save_config(config: RunConfig) -> None:
    """Writes the config with all its defaults into the run's folder."""
    folder = Path(config.output_dir) / config.name
    make_folder(folder)
    write_text(folder / "config.yaml", dump_yaml(config))


def save_model(folder: Path, save: Callable[[Path], None]) -> None:
    """`folder/model` with the hashes of its files, whole or not at all; raises UserError where the disk is full."""
    partial = folder / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        save(partial)
        write_hashes(partial)
        put_folder(partial, folder / "model")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{folder / 'model'}: can't be written ({why}); free some space and --resume"
        ) from error


def read_state(folder: Path) -> dict[str, Any]:
    """A stage's `stage.json`: done, fingerprint, made_of; empty where the stage was never begun.

    Raises:
        UserError: it is damaged.
    """
    path = folder / "stage.json"
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged ({error}); --restart deletes the stage and begins anew"
        ) from error
    if not isinstance(state, dict) or not {"done", "fingerprint", "made_of"} <= state.keys():
        raise UserError(
            f"{path}: is damaged (it is no record of a stage); --restart deletes the stage and begins anew"
        )
    return state


def write_state(folder: Path, made_of: dict[str, Any], done: bool) -> None:
    """Writes a stage's `stage.json`, with the hash of its metrics once it is done."""
    row = {"done": done, "fingerprint": fingerprint(made_of), "made_of": made_of}
    if done:
        row["metrics"] = _hash_of_metrics(folder)
    write_text(folder / "stage.json", json.dumps(row, indent=1))


def check_metrics(folder: Path, state: dict[str, Any]) -> None:
    """Sees that the metrics of a stage that is done are those that it wrote, which reports show.

    Raises:
        UserError: they aren't.
    """
    if state.get("metrics") == _hash_of_metrics(folder) or "metrics" not in state:
        return
    raise UserError(
        f"{folder / METRICS}: isn't as the stage wrote it; copy it back from the newest of {folder}/checkpoints/"
    )


def _hash_of_metrics(folder: Path) -> str | None:
    try:
        return hash_file(folder / METRICS)
    except FileNotFoundError:
        return None


def fingerprint(made_of: dict[str, Any]) -> str:
    """A hash of what a stage is made of."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def manifest_hash(data: str | Path) -> str | None:
    """The hash of a data set's manifest, which holds those of its shards; None where there is none."""
    try:
        return hashlib.sha256((Path(data) / MANIFEST).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def changed_settings(state: dict[str, Any], made_of: dict[str, Any], but: Collection[str] = ()) -> str:
    """The settings in which a stage that is there differs from what it would be made of now, but for some; empty where
    it doesn't."""
    if state["fingerprint"] == fingerprint(made_of):
        return ""
    keys = [key for key in differences(state["made_of"], made_of) if key not in but]
    if not keys and but:
        return ""
    return ", ".join(key for key in keys[:SHOWN] if key != EARLIER) or "an earlier stage"


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The paths at which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            d for key in keys for d in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [path]
