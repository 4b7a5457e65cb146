"""The sections of SFT, reward model, evaluation and the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from data_tools.config import Config
from mmrlhf.config.base import Positive, StageConfig
from mmrlhf.rewards.scalarizers.base import Weight


class SftConfig(StageConfig):
    """Supervised fine-tuning; the loss is on answers only."""

    epochs: float = Field(1.0, gt=0, description="passes over the demonstrations")
    batch_size: Positive = Field(32, description="rows of one update, over all processes")
    learn_from: list[Literal["demonstration", "preference"]] = Field(
        ["demonstration"],
        min_length=1,
        description="kinds of records; of a preference record the best answer is learnt",
    )


class RewardConfig(StageConfig):
    """A reward model with one head an objective."""

    objectives: list[str] = Field(
        ["helpfulness", "factuality", "safety"], min_length=1, description="the heads"
    )
    epochs: float = Field(1.0, gt=0, description="passes over the preference records")
    batch_size: Positive = Field(32, description="records (pairs) of one update, over all processes")
    center: float = Field(
        0.001, ge=0, description="weight of the squared sum of a pair's rewards, which keeps rewards near 0"
    )

    @field_validator("objectives")
    @classmethod
    def _once_each(cls, value: list[str]) -> list[str]:
        if twins := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"{', '.join(twins)} is named more than once")
        return value


class EvaluateConfig(Config):
    """What the report measures."""

    split: str = Field("test", description="split of the data that nothing was trained on")
    prompts: Positive = Field(256, description="prompts answered by every policy, image and text mixed")
    pairs: Positive = Field(512, description="preference records scored by the reward model")
    temperature: float = Field(1.0, ge=0, description="of the answers that are measured; 0: the likeliest")
    samples: Positive = Field(6, description="pictures with every policy's answer in the report")
    weights: list[dict[str, Weight]] = Field(
        [],
        description="more weights, by objective, at which a preference-conditioned policy is measured, beside all "
        "alike and each objective alone",
    )
    batch_size: Positive = Field(64, description="prompts of one generation batch")

    @field_validator("split")
    @classmethod
    def _not_trained_on(cls, value: str) -> str:
        if value == "train":
            raise ValueError("the models were trained on it; name another split, such as test")
        return value


class EngineConfig(Config):
    """The training loop around every stage.

    fp16 is left out on purpose: its loss scale is in no checkpoint, so a run that goes on would differ.
    """

    mixed_precision: Literal["auto", "no", "bf16"] = Field(
        "auto", description="bf16 or no (float32); auto: bf16 where the GPU has it, else no"
    )
    shard: bool = Field(
        False,
        description="on several processes: split weights, gradients and optimizer state over them (FSDP2), for models "
        "that are too large for one device; else each holds all of them",
    )
    checkpoint_every: Positive = Field(50, description="steps between checkpoints")
    keep_checkpoints: Positive = Field(2, description="older ones are deleted")
    vision_cache_gb: float = Field(
        2.0,
        ge=0,
        description="device memory for image features that are kept while the tower is frozen; 0: none",
    )
    vision_cache_host_gb: float = Field(
        8.0, ge=0, description="host memory for those that no longer fit on the device"
    )
    tensorboard: bool = Field(True, description="write TensorBoard files beside metrics.jsonl")
