"""The sections of SFT, reward model, evaluation and the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from data_tools.config import Config
from mmrlhf.config.base import BatchSize, Epochs, Positive, StageConfig, set_otherwise
from mmrlhf.config.grounding import GroundingConfig
from mmrlhf.config.mixture import AdaptiveMixture, FixedMixture, Mixing
from mmrlhf.rewards.scalarizers.base import Weight


class SftConfig(StageConfig):
    """Supervised fine-tuning; the loss is on answers only."""

    epochs: Epochs = Field(
        1.0, description="passes over the demonstrations, rounded up to whole steps: none is left out"
    )
    batch_size: BatchSize = Field(32, description="rows of one update, over all processes")
    learn_from: list[Literal["demonstration", "preference"]] = Field(
        ["demonstration"],
        min_length=1,
        description="kinds of records; of a preference record the best answer is learnt",
    )


REFERENCE_RECORDS = 128  # that tell the scale of an objective's rewards on a modality, at most


class LabelWeights(Config):
    """How much each kind of label counts in the loss, which is a weighted mean over all labels of an update."""

    pair: float = Field(1.0, ge=0, description="of a comparison of two responses")
    ranking: float = Field(
        1.0, ge=0, description="of each choice in a ranking; one of n responses has n - 1 choices"
    )
    rating: float = Field(1.0, ge=0, description="of a rating of one response")
    binary: float = Field(1.0, ge=0, description="of a yes or no to one response")


class GateConfig(Config):
    """Weights of the objectives that are read off the prompt, learnt from comparisons of an overall objective."""

    objective: str = Field(
        min_length=1,
        description="the overall objective; its comparisons and rankings teach the gate, and it needs no head",
    )
    hidden: Positive | None = Field(None, description="width of a hidden layer; nothing: the gate is linear")
    steps: Positive = Field(
        300, description="steps of AdamW, each on all comparisons, once the heads are done"
    )
    lr: float = Field(0.003, gt=0, description="learning rate of these steps")
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay, towards equal weights")
    most: Positive = Field(2048, description="records that it learns from, at most")


class RewardConfig(StageConfig):
    """A reward model with one head an objective; each learns from whatever was judged on it."""

    objectives: list[str] = Field(
        ["helpfulness", "factuality", "safety"], min_length=1, description="the heads"
    )
    cost_heads: list[str] = Field(
        [],
        description="objectives whose rewards mean something at 0, such as safety: above it is yes (safe), below it no "
        "(Safe RLHF's cost, with its sign turned). They need yes-or-no labels, aren't centred, and are scaled but not "
        "shifted when rewards are normalised",
    )
    hidden: Positive | None = Field(None, description="width of a hidden layer in each head; nothing: linear")
    members: Positive = Field(
        1,
        description="ensemble of so many heads for each objective on the one backbone, each with a bootstrap of the "
        "data; their deviation says how unsure a reward is",
    )
    epochs: Epochs = Field(
        1.0, description="passes over the preference records, rounded up to whole steps: none is left out"
    )
    batch_size: BatchSize = Field(32, description="records (pairs) of one update, over all processes")
    center: float = Field(
        0.001, ge=0, description="weight of the squared sum of a pair's rewards, which keeps rewards near 0"
    )
    weights: LabelWeights = LabelWeights()
    margin_scale: float = Field(
        0.0,
        ge=0,
        description="units of reward for a unit of a comparison's margin: the better response must win by that much; "
        "0: margins aren't looked at",
    )
    rating_loss: Literal["huber", "squared"] = Field(
        "huber",
        description="huber: an error of more than a quarter of the scale pulls no harder than that; squared: it does",
    )
    # off: what is held out isn't learnt from, and small sets can't spare it; rewards are the same without a temperature
    calibrate: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the records that is kept out of training, with all that shares a picture with them, to "
        "fit each head's temperature on; 0: none, and no temperature",
    )
    min_norm_records: int = Field(
        20,
        ge=1,
        le=REFERENCE_RECORDS,
        description="records that must judge an objective on prompts with images, or on those of text, before its "
        "rewards there have a scale; with fewer the head abstains on such prompts: a few answers tell no deviation",
    )
    gate: GateConfig | None = Field(None, description="learn weights of the objectives for each prompt")
    grounding: GroundingConfig = GroundingConfig()
    mixture: Mixing = Field(FixedMixture(), description="how often each source is drawn as training goes on")

    @field_validator("objectives")
    @classmethod
    def _once_each(cls, value: list[str]) -> list[str]:
        if twins := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"{', '.join(twins)} is named more than once")
        return value

    @field_validator("mixture")
    @classmethod
    def _ours(cls, value: Config) -> Config:
        if not isinstance(value, FixedMixture | AdaptiveMixture):
            base = f"{AdaptiveMixture.__module__}:AdaptiveMixture"
            raise ValueError(f"{type(value).__name__} is not made from {base}")
        return value

    @model_validator(mode="after")
    def _known(self) -> RewardConfig:
        if others := [name for name in self.cost_heads if name not in self.objectives]:
            raise ValueError(f"cost_heads names {', '.join(others)}, which is none of the objectives")
        asked = self.grounding.image_conditional.objectives or []
        if others := [name for name in asked if name not in self.objectives]:
            raise ValueError(
                f"grounding.image_conditional.objectives names {', '.join(others)}, which is none of the objectives"
            )
        if self.grounding.flips and self.batch_size % 2:
            raise ValueError(
                "batch_size must be even where grounding.flips is above 0, so that no flip pair is cut"
            )
        return self

    @model_validator(mode="after")
    def _does_something(self) -> RewardConfig:
        """Refuses settings that nothing reads under the others."""
        weights, terms = self.weights, self.grounding
        compares = weights.pair > 0 or weights.ranking > 0
        centred = compares and set(self.objectives) - set(self.cost_heads)
        off = "does nothing where"
        mistakes = {
            f"margin_scale: {off} weights.pair is 0: margins are of comparisons": self.margin_scale
            and not weights.pair,
            f"rating_loss: {off} weights.rating is 0": set_otherwise(self, "rating_loss")
            and not weights.rating,
            f"center: {off} weights.pair and weights.ranking are 0, or all objectives are cost heads": (
                set_otherwise(self, "center") and self.center and not centred
            ),
            f"grounding.flips: {off} weights.pair and weights.ranking are 0": terms.flips and not compares,
            f"grounding.image_conditional: {off} weights.pair and weights.ranking are 0": (
                terms.image_conditional.weight and not compares
            ),
            f"grounding.reweight: {off} weights.pair is 0: it weighs comparisons of two responses": (
                terms.reweight.weight and not weights.pair
            ),
            f"grounding.length: {off} weights.pair is 0: it is of comparisons of two responses": (
                terms.length and not weights.pair
            ),
            "gate: weighs several objectives, and there is one, which always counts whole": self.gate
            and len(self.objectives) == 1,
        }
        if wrong := [message for message, applies in mistakes.items() if applies]:
            raise ValueError("; ".join(wrong) + ". Leave it out, or change the other setting")
        return self


class EvaluateConfig(Config):
    """What the report measures."""

    split: str = Field("test", description="split of the data that nothing was trained on")
    prompts: Positive = Field(256, description="prompts answered by every policy, image and text mixed")
    pairs: Positive = Field(512, description="preference records scored by the reward model")
    safety_split: str | None = Field(
        None,
        description="a split of prompts that say whether they must be refused (reference: {refuse: true or false}); "
        "every policy is asked these as well, and the report tells how many harmful ones it refuses and how many "
        "benign ones it answers. null: only what the prompts of `split` tell of it",
    )
    safety_prompts: int = Field(
        256, ge=2, description="prompts of safety_split, half of them harmful and half benign"
    )
    temperature: float = Field(1.0, ge=0, description="of the answers that are measured; 0: the likeliest")
    samples: Positive = Field(6, description="pictures with every policy's answer in the report")
    weights: list[dict[str, Weight]] = Field(
        [],
        description="more weights, by objective, at which a preference-conditioned policy is measured, beside all "
        "alike and each objective alone",
    )
    batch_size: BatchSize = Field(
        64, description="prompts answered, or records read by the reward model, at a time"
    )
    generate_batch_size: BatchSize | None = Field(
        None, description="answers sampled at a time; nothing: as in ppo, and at most batch_size"
    )
    micro_batch_size: BatchSize | None = Field(
        None,
        description="answers that the reward model reads in one forward; nothing: as in the stage that reads them "
        "(reward where the reward model is measured, ppo where policies are), and at most batch_size",
    )
    micro_batch_tokens: Positive | None = Field(
        None, description="padded tokens of such a forward; nothing: as in that stage"
    )

    @field_validator("split", "safety_split")
    @classmethod
    def _not_trained_on(cls, value: str | None) -> str | None:
        if value == "train":
            raise ValueError("the models were trained on it; name another split, such as test")
        return value

    @model_validator(mode="after")
    def _does_something(self) -> EvaluateConfig:
        if self.safety_split is None and set_otherwise(self, "safety_prompts"):
            raise ValueError(
                "safety_prompts: does nothing without a safety_split to take them from; set safety_split, or leave "
                "safety_prompts out"
            )
        for name in ("generate_batch_size", "micro_batch_size"):
            if (getattr(self, name) or 0) > self.batch_size:
                raise ValueError(
                    f"{name}: {getattr(self, name)} is above batch_size ({self.batch_size}), of which it is a part; "
                    "set it to no more"
                )
        return self

    @property
    def sampled_at_once(self) -> int:
        """Answers that are sampled at a time."""
        return min(self.batch_size, self.generate_batch_size or self.batch_size)

    @property
    def read_at_once(self) -> int:
        """Answers that the reward model reads in one forward."""
        return min(self.batch_size, self.micro_batch_size or self.batch_size)


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

    @model_validator(mode="after")
    def _does_something(self) -> EngineConfig:
        if not self.vision_cache_gb and set_otherwise(self, "vision_cache_host_gb"):
            raise ValueError(
                "vision_cache_host_gb: does nothing where vision_cache_gb is 0, which keeps no image features; set "
                "vision_cache_gb above 0, or leave vision_cache_host_gb out"
            )
        return self
