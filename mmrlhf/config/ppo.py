"""The section of reinforcement learning."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from data_tools.config import Config, plugin_name
from mmrlhf.config.base import BatchSize, Positive, StageConfig
from mmrlhf.config.effect import without_effect
from mmrlhf.rewards.objectives import Objective
from mmrlhf.rewards.scalarizers import Scalarizer, ScalarizerBase, WeightedSum
from mmrlhf.rl.algorithms import Algorithm, AlgorithmBase, Ppo

BEFORE_PPO = ("sft", "base")  # what reports call the policy that PPO starts from


class PpoVariant(Config):
    """One of the policies that a run trains: a name and how its objectives are combined."""

    name: str = Field(
        description="names the run folder and the report's rows", pattern=r"^[a-z0-9][a-z0-9_-]*$"
    )
    scalarizer: Scalarizer = Field(WeightedSum(), description="how rewards_BK becomes one score")

    @field_validator("name")
    @classmethod
    def _not_before(cls, value: str) -> str:
        if value in BEFORE_PPO:
            raise ValueError("sft and base are the report's names for the policy before PPO; choose another")
        return value


class AlarmConfig(Config):
    """When a run is told to be going wrong; each bound may be null: never."""

    kl: float | None = Field(None, gt=0, description="KL to the reference (nats an answer) above this")
    entropy: float | None = Field(None, ge=0, description="entropy (nats a token) below this")
    length: float | None = Field(
        0.5, gt=0, description="answers longer or shorter than in the first steps by more than this share"
    )
    swap_gap: float | None = Field(
        0.5, gt=0, le=1, description="swap gap fallen by more than this share while the score has risen"
    )
    action: Literal["warn", "slow", "stop"] = Field(
        "warn",
        description="warn; slow: halve the learning rate too, once an alarm and again after 20 steps of it; stop: stop "
        "at a whole checkpoint",
    )


class PpoConfig(StageConfig):
    """Reinforcement learning on image and text prompts: PPO, GRPO, RLOO or REINFORCE++."""

    variants: list[PpoVariant] = Field(
        [PpoVariant(name="balanced")], min_length=1, description="one policy is trained for each"
    )
    objectives: list[Objective] = Field(
        [],
        description="what judges answers beside the heads of reward.objectives: verifiers, other models, functions",
    )
    algorithm: Algorithm = Field(Ppo(), description="how scores become advantages")
    prompts_from: list[Literal["prompt", "preference"]] = Field(
        ["prompt"],
        min_length=1,
        description="kinds of records whose prompts are answered, also in the evaluation",
    )
    steps: Positive = Field(100, description="rollouts, each followed by num_ppo_epochs of updates")
    batch_size: BatchSize = Field(32, description="prompts of one rollout, over all processes")
    answers_per_prompt: BatchSize = Field(
        1, description="answers to each prompt; GRPO and RLOO compare them, so they need 2 or more"
    )
    num_mini_batches: BatchSize = Field(2, description="updates of one pass over a rollout")
    num_ppo_epochs: Positive = Field(2, description="passes over a rollout")
    max_update_kl: float | None = Field(
        None,
        gt=0,
        description="the passes over a rollout end early once an update's KL (nats a token) is above this",
    )
    temperature: float = Field(1.0, gt=0, description="of sampling")
    generate_batch_size: BatchSize = Field(
        64, description="answers sampled at a time; fewer need less memory for their keys and values"
    )
    kl_coef: float = Field(0.05, ge=0, description="penalty on the KL to the reference")
    kl_target: float | None = Field(
        None,
        gt=0,
        description="KL an answer (nats) that an adaptive controller steers to; nothing: kl_coef is fixed",
    )
    kl_in: Literal["reward", "loss"] = Field(
        "reward",
        description="the penalty is taken off each token's reward (off an answer's, where an algorithm compares whole "
        "answers), or added to the loss",
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        "k1", description="of the penalty a token (Schulman 2020)"
    )
    cliprange: float = Field(0.2, gt=0, description="ratio clipping of the policy loss, below 1")
    cliprange_high: float | None = Field(
        None,
        gt=0,
        description="ratio clipping above 1, where it differs (DAPO's clip-higher); nothing: cliprange",
    )
    dual_clip: float | None = Field(
        None,
        gt=1,
        description="bound on the loss of tokens with negative advantage, in advantages; nothing: none",
    )
    cliprange_value: float = Field(0.2, gt=0, description="clipping of the value loss")
    vf_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    entropy_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    loss_over: Literal["tokens", "answers"] = Field(
        "tokens", description="the mean over all tokens, or over each answer's own mean"
    )
    ptx_coef: float = Field(
        0.0, ge=0, description="weight of the SFT loss on demonstrations, mixed into each update"
    )
    whiten_rewards: bool = Field(
        False,
        description="shift and scale the scores of a rollout to mean 0 and deviation 1, before a KL penalty that is in "
        "the reward",
    )
    score_clip: float = Field(
        5.0,
        gt=0,
        description="rewards are bounded to +- this before they are combined (by the scalarizer standardised: once "
        "they are standardised); objectives of your own may need their mean and std set, so as to lie within",
    )
    missing_eos_penalty: float = Field(
        1.0, ge=0, description="taken off the score of an answer that does not end"
    )
    length_penalty: float = Field(
        0.0, ge=0, description="taken off the score for an answer of max_answer_tokens, less for shorter ones"
    )
    value_lr: float | None = Field(
        None, gt=0, description="learning rate of the value head; nothing: 10 times lr"
    )
    sample_every: Positive = Field(10, description="steps between tables of sampled answers")
    swap_every: Positive = Field(
        10, description="steps between measurements of the reward with the true against a swapped image"
    )
    alarms: AlarmConfig = AlarmConfig()

    @field_validator("algorithm")
    @classmethod
    def _is_algorithm(cls, value: Config) -> Config:
        if not isinstance(value, AlgorithmBase):
            base = f"{AlgorithmBase.__module__}:AlgorithmBase"
            raise ValueError(f"{type(value).__name__} is not made from {base}")
        if type(value).advantages is AlgorithmBase.advantages:
            raise ValueError(
                f"{type(value).__name__} has no method advantages(scored), which says what it does"
            )
        return value

    @model_validator(mode="after")
    def _check(self) -> PpoConfig:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants: two have the same name ({', '.join(names)})")
        if self.batch_size % self.num_mini_batches:
            raise ValueError(
                f"batch_size {self.batch_size} can't be cut into {self.num_mini_batches} mini-batches"
            )
        name = plugin_name(self.algorithm)
        if self.algorithm.compares_answers and self.answers_per_prompt < 2:
            raise ValueError(
                f"algorithm {name}: compares the answers to a prompt, so answers_per_prompt must be 2 or more"
            )
        for variant in self.variants:
            if isinstance(
                variant.scalarizer, ScalarizerBase
            ):  # what isn't is refused with the path of its key
                self._check_scalarizer(variant.name, variant.scalarizer)
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            raise ValueError(
                "kl_in: loss: the gradient of k1 has mean 0, so it would hold nothing; set kl_estimator to k3 (or k2)"
            )
        if idle := list(without_effect(self)):
            raise ValueError("; ".join(idle))
        return self

    def _check_scalarizer(self, variant: str, scalarizer: ScalarizerBase) -> None:
        """Raises ValueError where a variant's scalarizer doesn't go with the algorithm."""
        where = f"variants: {variant}'s scalarizer"
        if scalarizer.needs_groups and self.answers_per_prompt < 2:
            raise ValueError(
                f"{where} compares the answers to a prompt, so answers_per_prompt must be 2 or more"
            )
        if self.algorithm.critic_an_objective and not scalarizer.linear:
            raise ValueError(
                f"{where}, {plugin_name(scalarizer)}, is no weighted sum, which critics: per_objective needs: "
                "advantages that are put together by the score's derivatives would raise another sum than the score. "
                "Set critics: single, or a linear scalarizer (weighted_sum, standardised, gated, lagrangian)"
            )
        if scalarizer.scales_groups and getattr(self.algorithm, "scale", None) == "group":
            raise ValueError(
                f"{where} divides by the deviations of each group, and algorithm.scale: group would once more, so that "
                "large and small differences came out alike. Leave scale out, or set it to batch or none"
            )
