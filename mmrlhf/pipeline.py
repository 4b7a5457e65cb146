"""A whole run, stage by stage, in one folder; each stage is kept once it is done, and goes on where it stopped.

runs/NAME/config.yaml
          data/                 shards, manifest.json, stats.json
          sft/ reward/ ppo/VARIANT/
              stage.json        what it was made with, and whether it is done
              metrics.jsonl  timings.jsonl  tensorboard/  samples/  checkpoints/step-N/  model/
          evaluate/tradeoffs.json  reward.json  reward.html
          report.html
"""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from data_tools.build import Advice, DataConfig, build
from data_tools.errors import UserError
from data_tools.lock import locked
from data_tools.manifest import MANIFEST
from mmrlhf.config import AdaptiveMixture, ModelConfig, PpoVariant, RunConfig, StageConfig
from mmrlhf.models.parts import save_vlm
from mmrlhf.out_of_memory import advising
from mmrlhf.preflight import check_data
from mmrlhf.rewards.scalarizers import PreferenceConditioned
from mmrlhf.rewards.scalarizers.asking import save_asks
from mmrlhf.run_checks import check_start
from mmrlhf.run_folder import (
    EARLIER,
    changed_settings,
    check_metrics,
    make_folder,
    manifest_hash,
    read_state,
    save_config,
    save_model,
    write_state,
)
from mmrlhf.run_models import RunModels
from mmrlhf.terminal import console, progress
from mmrlhf.training.checkpoint import restore_weights
from mmrlhf.training.engine import Engine, Stage, make_accelerator, step_seed
from mmrlhf.training.reward import RewardStage
from mmrlhf.training.reward_data import RewardData
from mmrlhf.training.sft import SftStage

S = TypeVar("S", bound=Stage)
# settings that a run may go on with changed: they decide how much is worked on at a time, or when to give up
ROUNDING_ONLY = {"micro_batch_size", "micro_batch_tokens", "generate_batch_size", "max_refused"}


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
        self.models = RunModels(config, self.accelerator)
        self._data_ready = False
        if self.accelerator.is_main_process:
            make_folder(self.folder)
        self.accelerator.wait_for_everyone()

    @property
    def data_folder(self) -> str:
        """Where the run's data set is, or will be."""
        return self.config.data if isinstance(self.config.data, str) else str(self.folder / "data")

    def all(self) -> Path | None:
        """Every stage that the config has; the report's path where it evaluates."""
        check_start(self.config)
        self.data()
        if self.config.sft:
            self._check_held_out()
            self.sft()
        if self.config.reward:
            self.reward()
        if self.config.ppo:
            self.ppo()
        return self.evaluate() if self.config.evaluate else None

    def data(self, keep: bool = False) -> None:
        """Builds the data set, unless it is there, and compares the config with it (once a run: stages call it too).

        `keep`: a stage that was made from it is used, so `restart` doesn't delete it.

        Raises:
            UserError: it can't be built or is of another config, or it lacks what a section of the config needs.
        """
        if self._data_ready:
            return
        self._data_ready = True
        if isinstance(self.config.data, DataConfig):
            if self.accelerator.is_main_process:
                self._build(self.config.data, keep)
            self.accelerator.wait_for_everyone()
        elif not (Path(self.config.data) / MANIFEST).is_file():
            raise UserError(
                f"data: {self.config.data} is no built data set (no {MANIFEST}): mmrlhf data build"
            )
        for word in check_data(self.config, Path(self.data_folder)):
            if self.accelerator.is_main_process:
                console.print(word, style="yellow", markup=False)

    def _check_held_out(self) -> None:
        """Sees, before SFT is trained, that what the reward stage holds out is enough for what it is held out for.

        Raises:
            UserError: it isn't.
        """
        config = self.config.reward
        done = read_state(self.folder / "reward").get("done")
        if config and not done and (config.calibrate or isinstance(config.mixture, AdaptiveMixture)):
            RewardData(self.data_folder, config, self.config.seed)

    def _build(self, config: DataConfig, keep: bool) -> None:
        anew = (
            "mmrlhf run --restart to delete it and what was made from it"
            if keep
            else "--restart to delete it"
        )
        # one step a source, and one for writing
        with progress("data", len(config.sources) + 1) as bar:
            begun: list[str] = []

            def show(source: str, count: int, total: int | None) -> None:
                if source not in begun:
                    begun.append(source)
                bar(len(begun) - 1, f"{source}: {count} records")

            build(
                config,
                Path(self.data_folder),
                progress=show,
                overwrite=self.mode.restart and not keep,
                advice=Advice("--set name=... for another run folder", anew, "go on with --resume"),
                resume=self.mode.resume or keep,
            )
            bar(len(config.sources) + 1)

    def sft(self) -> None:
        """Supervised fine-tuning of the run's model."""
        config = self._section("sft")
        check_start(self.config, "sft")
        self.data()

        def train(folder: Path) -> Callable[[Path], None]:
            def make() -> SftStage:
                vlm = self.models.load(self.config.stage_model(config), trainable=True)
                if config.epochs > 1:
                    self.models.keep_features({"sft": vlm}, alone=True)
                return SftStage(vlm, config, self.data_folder, self.config.seed, self.accelerator)

            stage = self._trained(make, folder)
            return lambda out: save_vlm(stage.vlm, out)

        self._stage("sft", train)

    def reward(self) -> None:
        """The reward model, from the SFT model where the run has one."""
        config = self._section("reward")
        check_start(self.config, "reward")
        start = self._start_model(config)
        self.data()

        def train(folder: Path) -> Callable[[Path], None]:
            def make() -> RewardStage:
                vlm = self.models.load(start, trainable=True)
                self.models.keep_features({"reward model": vlm}, alone=config.epochs > 1)
                return RewardStage(vlm, config, self.data_folder, self.config.seed, self.accelerator)

            stage = self._trained(make, folder)
            stage.finish()
            return stage.reward_model.save

        self._stage("reward", train)

    def ppo(self) -> None:
        """One policy for each variant of the config."""
        config = self._section("ppo")
        check_start(self.config, "ppo")
        reward_path = self._reward_path()
        start = self._start_model(config)
        self.data()
        for variant, name in zip(config.variants, self.stage_names("ppo"), strict=True):
            self._stage(name, functools.partial(self._ppo, variant, start, reward_path))

    def _ppo(
        self, variant: PpoVariant, start: ModelConfig, reward_path: Path | None, folder: Path
    ) -> Callable[[Path], None]:
        stage = self._trained(
            lambda: self.models.ppo_stage(variant, start, reward_path, self.data_folder, folder), folder
        )

        def save(out: Path) -> None:
            save_vlm(stage.vlm, out)
            if isinstance(stage.scalarizer, PreferenceConditioned):
                save_asks(out, stage.objectives)

        return save

    def _reward_path(self) -> Path | None:
        """Where the reward model is; None where other objectives do without one."""
        return self._need("reward") if self.config.reward else None

    def evaluate(self) -> Path:
        """Measures every policy and the reward model, and writes the report."""
        from mmrlhf.evaluation.report import write_report
        from mmrlhf.evaluation.tradeoffs import evaluate_tradeoffs

        self._section("evaluate")
        reward_path = self._reward_path()
        policies = self.policies()
        out = self.folder / "evaluate"
        if self.accelerator.is_main_process:
            with self._held(out, "evaluating into"), advising("evaluate"):
                # not before: a config that didn't make these models is refused above
                save_config(self.config)
                device = self.accelerator.device
                evaluate_tradeoffs(policies, reward_path, self.data_folder, self.config, out, device)
                write_report(self.folder, self.config)
        self.accelerator.wait_for_everyone()
        return self.folder / "report.html"

    def evaluate_reward(
        self, changes: dict[str, Any], out: Path | None = None
    ) -> tuple[dict[str, Any], Path]:
        """Measures the reward model alone, as the config says but for `changes` (fields of `How`), and writes the
        result into `out`, or into the run, whose report then shows it. Gives it back with the page's path."""
        from mmrlhf.evaluation.report import write_report
        from mmrlhf.evaluation.reward.command import on_run

        self._section("reward")
        path, judged = self._need("reward"), dict[str, Any]()
        folder = out or self.folder / "evaluate"
        page = folder / "reward.html"
        if self.accelerator.is_main_process:
            with self._held(folder, "evaluating into"), advising("evaluate reward"):
                judged = on_run(self.config, path, self.data_folder, self.accelerator.device, changes, folder)
                page = page if out else write_report(self.folder, self.config)
        self.accelerator.wait_for_everyone()
        return judged, page

    def policies(self) -> dict[str, str]:
        """Where the model that PPO starts from is, and each variant after it, by name."""
        found = {self.config.before_ppo: self._start_model(self.config.ppo or StageConfig()).path}
        if self.config.ppo:
            found |= {name.split("/")[1]: str(self._need(name)) for name in self.stage_names("ppo")}
        return found

    def stage_names(self, kind: str) -> list[str]:
        """The stages of a kind, which are also their folders: sft, reward, or ppo/VARIANT for each variant."""
        section = self._section(kind)
        return [f"ppo/{variant.name}" for variant in section.variants] if kind == "ppo" else [kind]

    def _section(self, name: str) -> Any:
        section = getattr(self.config, name)
        if section is None:
            raise UserError(f"the config has no {name}: section")
        return section

    def _need(self, name: str) -> Path:
        """The model of a stage that is done.

        Raises:
            UserError: it isn't done, or it, or a stage or data set that it was made from, is of other settings.
        """
        folder = self.folder / name
        state = read_state(folder)
        if not state.get("done"):
            raise UserError(
                f"{folder}: that stage isn't done; first: mmrlhf {name.split('/')[0]} --config ..."
            )
        self.data(keep=True)
        for earlier in self._after(name):
            self._need(earlier)
        if changed := changed_settings(state, self._made_of(name)):
            raise UserError(
                f"{folder}: was made with other settings ({changed}). Undo the change, give the run another name "
                f"(--set name=...), or train it anew: mmrlhf {name.split('/')[0]} --restart"
            )
        check_metrics(folder, state)
        return folder / "model"

    def _start_model(self, stage: StageConfig) -> ModelConfig:
        """What reward model and PPO start from: the stage's own model if it names one, else the SFT model, else the
        run's."""
        settings = self.config.stage_model(stage)
        if self.config.starts_from_sft(stage):
            return settings.model_copy(update={"path": str(self._need("sft"))})
        return settings

    def _trained(self, make: Callable[[], S], folder: Path) -> S:
        """A stage, trained; made anew around its weights where these were split over processes, since what is saved
        must be whole."""
        stage = make()
        engine = Engine(folder, self.config.engine, self.config.seed, self.accelerator)
        engine.train(stage)
        weights = engine.weights(stage)
        if not engine.sharded:
            restore_weights(stage.module, weights)
            return stage
        state = stage.state_dict()
        del stage
        self.accelerator.free_memory()  # before there is another one
        fresh = make()
        restore_weights(fresh.module, weights)
        fresh.load_state_dict(state)
        return fresh

    def _held(self, folder: Path, doing: str) -> contextlib.AbstractContextManager[None]:
        """Keeps other runs out of a folder while it lasts."""
        return locked(folder, doing) if self.accelerator.is_main_process else contextlib.nullcontext()

    def _stage(self, name: str, train: Callable[[Path], Callable[[Path], None]]) -> None:
        """Trains a stage, or keeps it where it is done with the same settings."""
        with self._held(self.folder / name, "training"), advising(name.split("/")[0]):
            self._train_or_keep(name, train)

    def _train_or_keep(self, name: str, train: Callable[[Path], Callable[[Path], None]]) -> None:
        folder = self.folder / name
        made_of = self._made_of(name)
        main = self.accelerator.is_main_process
        if self.mode.restart and main:
            shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        state = read_state(folder)
        # what chooses among checkpoints may change while the stage is at work
        free = () if state.get("done") else (f"{name.split('/')[0]}.best_by",)
        if state and (changed := changed_settings(state, made_of, free)):
            raise UserError(
                f"{folder}: was made with other settings ({changed}). Give the run another name (--set name=...), or "
                "--restart to delete it and begin anew."
            )
        if state.get("done"):
            check_metrics(folder, state)
            if main:
                console.print(f"{name}: kept, it is done", style="dim")
            return
        if state and not self.mode.resume:
            raise UserError(
                f"{folder}: is unfinished. Go on with --resume, or --restart to delete it and begin anew."
            )
        self.accelerator.wait_for_everyone()  # until each has read what the main one is about to change
        if main:
            folder.mkdir(parents=True, exist_ok=True)
            write_state(folder, made_of, done=False)
            save_config(self.config)  # not before: a run that is refused leaves the folder's own
        # new adapters and heads are drawn from the seed alone, whatever this process did before
        torch.manual_seed(step_seed(self.config.seed, name, -1))
        save = train(folder)
        if main:
            save_model(folder, save)
            write_state(folder, made_of, done=True)
        self.accelerator.free_memory()
        self.accelerator.wait_for_everyone()

    def _after(self, name: str) -> list[str]:
        """The stages whose models a stage is made from."""
        kind = name.split("/")[0]
        start = ["sft"] if kind != "sft" and self.config.starts_from_sft(self._section(kind)) else []
        return [*start, "reward"] if kind == "ppo" and self.config.reward else start

    def _made_of(self, name: str) -> dict[str, Any]:
        """Everything that decides a stage's numbers, under the keys of the config where it has them."""
        kind, _, variant = name.partition("/")
        section = self._section(kind)
        settings = section.model_dump(mode="json", exclude={"model", *ROUNDING_ONLY})
        if variant:
            if section.alarms.action != "slow":
                del settings["alarms"]  # they tell of numbers, or stop the run, and change none
            # the other variants don't decide this one's numbers
            settings["variants"] = [v for v in settings["variants"] if v["name"] == variant]
            settings["objectives"] = [
                objective.made_of(row)
                for objective, row in zip(section.objectives, settings["objectives"], strict=True)
            ]
        data = self.config.data
        return {
            "stage": name,
            "seed": self.config.seed,
            "model": self.config.stage_model(section).model_dump(mode="json"),
            "data": data if isinstance(data, str) else data.model_dump(mode="json"),
            f"data/{MANIFEST}": manifest_hash(self.data_folder),
            kind: settings,
            "engine": {"mixed_precision": self.config.engine.mixed_precision},
            EARLIER: [read_state(self.folder / stage).get("fingerprint") for stage in self._after(name)],
        }
