"""A whole run, stage by stage, in one folder; each stage is kept once it is done, and goes on where it stopped.

runs/NAME/config.yaml
          data/                 shards, manifest.json, stats.json
          sft/ reward/ ppo/VARIANT/
              stage.json        what it was made with, and whether it is done
              metrics.jsonl  timings.jsonl  tensorboard/  samples/  checkpoints/step-N/  model/
          evaluate/tradeoffs.json  reward.json
          report.html
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from pydantic import BaseModel
from safetensors import SafetensorError

from data_tools.atomic import write_text
from data_tools.build import build
from data_tools.config import dump_yaml
from data_tools.errors import UserError
from mmrlhf.config import ModelConfig, PpoVariant, RunConfig, StageConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.rewards.model import load_reward_model
from mmrlhf.terminal import console, progress
from mmrlhf.training.engine import Engine, Stage, make_accelerator, step_seed
from mmrlhf.training.ppo import PpoStage
from mmrlhf.training.reward import RewardStage
from mmrlhf.training.sft import SftStage


@dataclass(frozen=True)
class RunMode:
    """What to do with what a run folder already holds."""

    resume: bool = False  # go on with an unfinished stage
    restart: bool = False  # delete it first


class Run:
    """The stages of one config in its folder. Each method makes what it needs itself, or says what is missing."""

    def __init__(self, config: RunConfig, mode: RunMode) -> None:
        self.config, self.mode = config, mode
        self.folder = Path(config.output_dir) / config.name
        self.accelerator: Accelerator = make_accelerator(config.engine)
        self._data_ready = False
        if self.accelerator.is_main_process:
            _make_folder(self.folder)
        self.accelerator.wait_for_everyone()

    @property
    def data_folder(self) -> str:
        """Where the run's data set is, or will be."""
        return self.config.data if isinstance(self.config.data, str) else str(self.folder / "data")

    def all(self) -> Path | None:
        """Every stage that the config has; the report's path where it evaluates."""
        self.data()
        if self.config.sft:
            self.sft()
        if self.config.reward:
            self.reward()
        if self.config.ppo:
            self.ppo()
        return self.evaluate() if self.config.evaluate else None

    def data(self) -> None:
        """Builds the data set, unless it is there (once a run: stages call it too)."""
        if self._data_ready:
            return
        self._data_ready = True
        if isinstance(self.config.data, str):
            if not (Path(self.config.data) / "manifest.json").is_file():
                raise UserError(
                    f"data: {self.config.data} is no built data set (no manifest.json): mmrlhf data build"
                )
            return
        if self.accelerator.is_main_process:
            # one step a source, and one for writing
            with progress("data", len(self.config.data.sources) + 1) as bar:
                begun: list[str] = []

                def show(source: str, count: int, total: int | None) -> None:
                    if source not in begun:
                        begun.append(source)
                    bar(len(begun) - 1, f"{source}: {count} records")

                build(self.config.data, Path(self.data_folder), progress=show, overwrite=self.mode.restart)
                bar(len(self.config.data.sources) + 1)
        self.accelerator.wait_for_everyone()

    def sft(self) -> None:
        """Supervised fine-tuning of the run's model."""
        config = self._section("sft")
        self.data()

        def train(folder: Path) -> Callable[[Path], None]:
            vlm = self._load(self.config.stage_model(config), trainable=True)
            stage = SftStage(vlm, config, self.data_folder, self.config.seed, self.accelerator)
            self._train(stage, folder)
            return lambda out: save_vlm(vlm, out)

        self._stage("sft", config, [], train)

    def reward(self) -> None:
        """The reward model, from the SFT model where the run has one."""
        config = self._section("reward")
        self.data()
        start = self._start_model(config)

        def train(folder: Path) -> Callable[[Path], None]:
            vlm = self._load(start, trainable=True)
            stage = RewardStage(vlm, config, self.data_folder, self.config.seed, self.accelerator)
            self._train(stage, folder)
            stage.finish()
            return stage.reward_model.save

        self._stage("reward", config, ["sft"] if self.config.sft else [], train)

    def ppo(self) -> None:
        """One policy for each variant of the config."""
        config = self._section("ppo")
        reward_path = self._need("reward")
        start = self._start_model(config)
        for variant in config.variants:
            # the other variants don't decide this one's numbers
            own = config.model_copy(update={"variants": [variant]})
            train = functools.partial(self._ppo, variant, start, reward_path)
            self._stage(f"ppo/{variant.name}", own, ["reward"], train)

    def _ppo(
        self, variant: PpoVariant, start: ModelConfig, reward_path: Path, folder: Path
    ) -> Callable[[Path], None]:
        config = self._section("ppo")
        vlm = self._load(start, trainable=True)
        reference = None if vlm.has_adapters else self._load(start, trainable=False)
        judge_settings = self.config.stage_model(self._section("reward"))
        judge = load_reward_model(reward_path, self.accelerator.device, judge_settings)
        stage = PpoStage(
            vlm,
            reference,
            judge,
            config,
            variant,
            self.data_folder,
            folder,
            self.config.seed,
            self.accelerator,
        )
        self._train(stage, folder)
        return lambda out: save_vlm(vlm, out)

    def evaluate(self) -> Path:
        """Measures every policy and the reward model, and writes the report."""
        from mmrlhf.evaluation.report import write_report
        from mmrlhf.evaluation.tradeoffs import evaluate_tradeoffs

        self._section("evaluate")
        reward_path = self._need("reward")
        if self.accelerator.is_main_process:
            save_config(self.config)
            evaluate_tradeoffs(
                self.policies(),
                reward_path,
                self.data_folder,
                self.config,
                self.folder / "evaluate",
                self.accelerator.device,
            )
            write_report(self.folder, self.config)
        self.accelerator.wait_for_everyone()
        return self.folder / "report.html"

    def policies(self) -> dict[str, Path]:
        """The model before PPO and each variant after it, by name."""
        before = self._need("sft") if self.config.sft else Path(self.config.model.path)
        found = {"sft" if self.config.sft else "base": before}
        if self.config.ppo:
            found |= {variant.name: self._need(f"ppo/{variant.name}") for variant in self.config.ppo.variants}
        return found

    def _section(self, name: str) -> Any:
        section = getattr(self.config, name)
        if section is None:
            raise UserError(f"the config has no {name}: section")
        return section

    def _need(self, stage: str) -> Path:
        model = self.folder / stage / "model"
        if not _state(self.folder / stage).get("done"):
            raise UserError(
                f"{self.folder / stage}: that stage isn't done; first: mmrlhf {stage.split('/')[0]} --config ..."
            )
        return model

    def _start_model(self, stage: StageConfig) -> ModelConfig:
        """What reward model and PPO start from: the stage's own model if it names one, else the SFT model, else the
        run's."""
        settings = self.config.stage_model(stage)
        if self.config.sft is None or (
            stage.model is not None and stage.model.path != self.config.model.path
        ):
            return settings
        return settings.model_copy(update={"path": str(self._need("sft"))})

    def _load(self, settings: ModelConfig, trainable: bool) -> Any:
        return load_vlm(settings, self.accelerator.device, trainable)

    def _train(self, stage: Stage, folder: Path) -> None:
        Engine(folder, self.config.engine, self.config.seed, self.accelerator).train(stage)

    def _stage(
        self, name: str, config: BaseModel, after: list[str], train: Callable[[Path], Callable[[Path], None]]
    ) -> None:
        """Trains a stage, or keeps it where it is done with the same settings."""
        folder = self.folder / name
        made_of = self._made_of(name, config, after)
        fingerprint = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        main = self.accelerator.is_main_process
        if self.mode.restart and main:
            shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        state = _state(folder)
        if state and state["fingerprint"] != fingerprint:
            keys = ", ".join(_differences(state["made_of"], made_of)[:4]) or "an earlier stage"
            raise UserError(
                f"{folder}: was made with other settings ({keys}). Give the run another name (--set name=...), or "
                "--restart to delete it and begin anew."
            )
        if state.get("done"):
            if main:
                console.print(f"{name}: kept, it is done", style="dim")
            return
        if state and not self.mode.resume:
            raise UserError(
                f"{folder}: is unfinished. Go on with --resume, or --restart to delete it and begin anew."
            )
        if main:
            folder.mkdir(parents=True, exist_ok=True)
            _write_state(folder, fingerprint, made_of, done=False)
            save_config(self.config)  # not before: a run that is refused leaves the folder's own
        # new adapters and heads are drawn from the seed alone, whatever this process did before
        torch.manual_seed(step_seed(self.config.seed, name, -1, 0))
        save = train(folder)
        if main:
            _save_model(folder, save)
            _write_state(folder, fingerprint, made_of, done=True)
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()

    def _made_of(self, name: str, config: BaseModel, after: list[str]) -> dict[str, Any]:
        """Everything that decides the stage's numbers."""
        data = (
            self.config.data
            if isinstance(self.config.data, str)
            else self.config.data.model_dump(mode="json")
        )
        return {
            "stage": name,
            "seed": self.config.seed,
            "model": self.config.model.model_dump(mode="json"),
            "data": data,
            "config": config.model_dump(mode="json"),
            "after": [_state(self.folder / stage).get("fingerprint") for stage in after],
        }


def save_config(config: RunConfig) -> None:
    """Writes the config with all its defaults into the run's folder."""
    folder = Path(config.output_dir) / config.name
    _make_folder(folder)
    write_text(folder / "config.yaml", dump_yaml(config))


def _save_model(folder: Path, save: Callable[[Path], None]) -> None:
    """`folder/model`, whole or not at all; raises UserError where the disk is full."""
    partial = folder / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        save(partial)
        shutil.rmtree(folder / "model", ignore_errors=True)
        os.replace(partial, folder / "model")
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"{folder / 'model'}: can't be written ({why}); free some space and --resume"
        ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror}); choose another output_dir") from error


def _state(folder: Path) -> dict[str, Any]:
    path = folder / "stage.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(
            f"{path}: is damaged ({error}); --restart deletes the stage and begins anew"
        ) from error


def _write_state(folder: Path, fingerprint: str, made_of: dict[str, Any], done: bool) -> None:
    write_text(
        folder / "stage.json",
        json.dumps({"done": done, "fingerprint": fingerprint, "made_of": made_of}, indent=1),
    )


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """The paths at which two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            d for key in keys for d in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [path]
