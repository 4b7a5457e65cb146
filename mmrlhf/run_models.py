"""The models of a run, as its config says: loaded, with one cache of image features, and put together for PPO."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from mmrlhf.config import ModelConfig, PpoVariant, RunConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import left_without_adapters
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel, load_reward_model
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.shared import load_within, why_apart
from mmrlhf.terminal import console
from mmrlhf.training.ppo import PpoStage


class RunModels:
    """Loads what the stages of a config train and ask."""

    def __init__(self, config: RunConfig, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator

    def load(self, settings: ModelConfig, trainable: bool) -> VLM:
        """A model by its settings, on this process's device.

        Raises:
            UserError: it can't be loaded.
        """
        vlm = load_vlm(settings, self.accelerator.device, trainable)
        if vlm.rows_because:
            self._say(f"{settings.path}: answers to one prompt are read one by one, since {vlm.rows_because}")
        if trainable and settings.lora and (left := left_without_adapters(vlm.core, settings.path)):
            self._say(f"{settings.path}: LoRA leaves out what is no linear layer: {left}")
        if vlm.apart_because:
            what = "pictures are encoded" if vlm.one_by_one else "positions are counted"
            self._say(f"{settings.path}: {what} one prompt at a time, since {vlm.apart_because}")
        return vlm

    def keep_features(self, models: dict[str, VLM | None], alone: bool = False) -> None:
        """One cache of image features for all of them; models with the same tower read each other's. `alone`: for all
        steps of the stage (`VisionCache`)."""
        cache = vision_cache(self.config.engine, alone)
        if cache is None:
            return
        for role, vlm in models.items():
            if vlm is not None and (reason := keep_features(vlm, cache)):
                self._say(f"{role}: image features are made anew for each forward, since {reason}")

    def _judge(self, path: Path, vlm: VLM) -> RewardModel:
        """The reward model: in the policy's own model where it was trained on the same base."""
        assert self.config.reward is not None
        settings = self.config.stage_model(self.config.reward)
        if reason := why_apart(path, settings, vlm):
            self._say(f"reward model: is loaded beside the policy, since {reason}")
            return load_reward_model(path, self.accelerator.device, settings)
        self._say("reward model: is an adapter in the policy's model, on the base that both share")
        return load_within(path, vlm)

    def _reference(self, start: ModelConfig, policy: VLM) -> VLM:
        """The policy before training. It has the policy's dtype: in another one its log-probs differ from the policy's
        before the first update, and an algorithm that divides by a group's deviation makes advantages of that."""
        dtype = str(next(policy.model.parameters()).dtype).removeprefix("torch.")
        return self.load(start.model_copy(update={"dtype": dtype}), trainable=False)

    def ppo_stage(
        self, variant: PpoVariant, start: ModelConfig, reward_path: Path | None, data: str, folder: Path
    ) -> PpoStage:
        """The stage of a variant: the policy, its reference where it isn't the policy without adapters, and its judges.

        Raises:
            UserError, RunError: a model can't be loaded, or an objective can't be opened.
        """
        vlm = self.load(start, trainable=True)
        reference = None if vlm.has_adapters else self._reference(start, vlm)
        config = self.config.ppo
        assert config is not None
        judge = self._judge(reward_path, vlm) if reward_path else None
        panel = Panel(judge, config.objectives)
        panel.open()
        self.keep_features(
            {"policy": vlm, "reference": reference, "reward model": judge.vlm if judge else None}
        )
        return PpoStage(
            vlm,
            reference,
            panel,
            config,
            variant,
            data,
            folder,
            self.config.seed,
            self.accelerator,
        )

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            console.print(text, style="dim")
