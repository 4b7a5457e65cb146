"""The answers of policies that were measured before an evaluation was stopped: no policy is asked and no judge is paid
twice.

They lie in a folder, a file for each policy and point, until the evaluation is done. Each file names what its answers
hang on, and isn't taken up where any of that has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools.manifest import MANIFEST
from mmrlhf.config import RunConfig
from mmrlhf.evaluation.policy import Answer, PolicyEvaluation, summarise
from mmrlhf.evaluation.results import write_result
from mmrlhf.file_hashes import HASHES

FOLDER = "unfinished"


class Unfinished:
    """Keeps the measures of an evaluation that goes on."""

    def __init__(self, out: Path, config: RunConfig, data: str, reward_path: Path | None) -> None:
        self.folder = out / FOLDER
        objectives = config.ppo.objectives if config.ppo else []
        self._hangs_on = [
            config.model_dump(mode="json", exclude={"name", "output_dir"}),
            [objective.made_of(objective.model_dump(mode="json")) for objective in objectives],
            _hash_file(Path(data) / MANIFEST),
            identify_model(reward_path) if reward_path else None,
        ]

    def take(self, point: str, policy: str | Path, objectives: Sequence[str]) -> PolicyEvaluation | None:
        """The measures of a policy at a point; None where they weren't put, or hang on something else."""
        try:
            row = json.loads(self._path(point).read_text(encoding="utf-8"))
            if row["hangs_on"] != self._key(point, policy):
                return None
            answers, safety = ([_answer(item) for item in row[key]] for key in ("answers", "safety_answers"))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, or cut off by a full disk: it is measured again
        return summarise(point, objectives, answers, safety)

    def put(self, policy: str | Path, measured: PolicyEvaluation) -> None:
        """Keeps a policy's measures at a point."""
        self.folder.mkdir(parents=True, exist_ok=True)
        row = {
            "hangs_on": self._key(measured.name, policy),
            "answers": [dataclasses.asdict(answer) for answer in measured.answers],
            "safety_answers": [dataclasses.asdict(answer) for answer in measured.safety_answers],
        }
        write_result(self._path(measured.name), row)

    def clear(self) -> None:
        """Deletes what was kept; the result holds all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _key(self, point: str, policy: str | Path) -> str:
        return _hash([*self._hangs_on, point, identify_model(policy)])

    def _path(self, point: str) -> Path:
        return self.folder / f"{_hash(point)[:16]}.json"


def identify_model(path: str | Path) -> Any:
    """What tells a model from others: the hashes that were saved with it, else the names, sizes and times of its files;
    of one that is no folder, its name.
    """
    folder = Path(path)
    if (folder / HASHES).is_file():
        return _hash_file(folder / HASHES)
    if not folder.is_dir():
        return str(path)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _answer(row: dict[str, Any]) -> Answer:
    claims = None if row["claims"] is None else [(text, true) for text, true in row["claims"]]
    return Answer(**{**row, "claims": claims, "unscored": tuple(row["unscored"])})


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
