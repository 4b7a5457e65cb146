"""The typed configs of a run. One YAML file holds them all; every default here is the vetted setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from data_tools.build import DataConfig
from data_tools.config import Config, validate_nested
from mmrlhf.rewards.scalarizers import Scalarizer, WeightedSum

if TYPE_CHECKING:
    import torch

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class LoraSettings(Config):
    """Low-rank adapters on the language model's linear layers."""

    r: Positive = Field(16, description="rank")
    alpha: float = Field(
        32, gt=0, description="scale; the update is alpha / r times the product of the two factors"
    )
    targets: list[str] | None = Field(
        None,
        description="last names of the linear layers, such as q_proj; nothing: all of the language model's",
    )


class ModelConfig(Config):
    """Which model, and which of its parts are trained."""

    path: str = Field("tiny", description="model directory, hub id, or 'tiny' (the bundled one)")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the weights; auto: bfloat16 on a GPU, float32 on a CPU and in full fine-tuning",
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="attention kernel"
    )
    lora: LoraSettings | None = Field(None, description="train adapters; nothing: full fine-tuning")
    freeze_vision_tower: bool = Field(True, description="keep the vision tower as it is")
    freeze_projector: bool = Field(True, description="keep the projector as it is")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    min_pixels: Positive | None = Field(
        None, description="smallest image area, for families that take it (Qwen-VL)"
    )
    max_pixels: Positive | None = Field(
        None, description="largest image area, for families that take it (Qwen-VL)"
    )

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.lora and not (self.freeze_vision_tower and self.freeze_projector):
            # else the model with its adapters off would no longer be the reference
            raise ValueError(
                "with lora only adapters are trained: leave freeze_vision_tower and freeze_projector true"
            )
        return self

    def torch_dtype(self, device: torch.device, full_training: bool = False) -> torch.dtype:
        """The dtype that weights are loaded in on `device`. Weights that are trained themselves stay in float32: an
        update of 1e-5 of a weight is lost in bfloat16's 8 bits."""
        import torch

        if self.dtype == "auto":
            half = device.type == "cuda" and not full_training
            return torch.bfloat16 if half else torch.float32
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.dtype]


class OptimConfig(Config):
    """AdamW and its learning rate."""

    lr: float = Field(1e-5, gt=0, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="from the peak towards lr * final"
    )
    final: Share = Field(0.1, description="the last learning rate as a share of the peak")
    warmup: Share = Field(0.03, description="share of the steps in which the rate rises from 0")
    betas: tuple[Share, Share] = Field((0.9, 0.95), description="AdamW's moment decays")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, on matrices only")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")


class StageConfig(Config):
    """What every training stage has."""

    model: ModelConfig | None = Field(None, description="overrides the run's model for this stage")
    optim: OptimConfig = OptimConfig()
    micro_batch_size: Positive = Field(8, description="rows of one forward and backward on one process")
    max_prompt_tokens: Positive = Field(
        1024, description="longer prompts are refused, with their count in the log"
    )
    max_answer_tokens: Positive = Field(512, description="longer answers are cut")


class SftConfig(StageConfig):
    """Supervised fine-tuning; the loss is on answers only."""

    epochs: float = Field(1.0, gt=0, description="passes over the demonstrations")
    batch_size: Positive = Field(32, description="rows of one update, over all processes")
    learn_from: list[Literal["demonstration", "preference"]] = Field(
        ["demonstration"], description="kinds of records; of a preference record the best answer is learnt"
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


class PpoVariant(Config):
    """One of the policies that a run trains: a name and how its objectives are combined."""

    name: str = Field(
        description="names the run folder and the report's rows", pattern=r"^[a-z0-9][a-z0-9_-]*$"
    )
    scalarizer: Scalarizer = Field(WeightedSum(), description="how rewards_BK becomes one score")


class PpoConfig(StageConfig):
    """Proximal policy optimization on image and text prompts."""

    variants: list[PpoVariant] = Field(
        [PpoVariant(name="balanced")], min_length=1, description="one policy is trained for each"
    )
    prompts_from: list[Literal["prompt", "preference"]] = Field(
        ["prompt"],
        min_length=1,
        description="kinds of records whose prompts are answered, also in the evaluation",
    )
    steps: Positive = Field(100, description="rollouts, each followed by num_ppo_epochs of updates")
    batch_size: Positive = Field(32, description="prompts of one rollout, over all processes")
    num_mini_batches: Positive = Field(2, description="updates of one pass over a rollout")
    num_ppo_epochs: Positive = Field(2, description="passes over a rollout")
    temperature: float = Field(1.0, gt=0, description="of sampling")
    kl_coef: float = Field(
        0.05, ge=0, description="penalty on the KL to the reference, taken off each token's reward"
    )
    kl_target: float | None = Field(
        None,
        gt=0,
        description="KL an answer (nats) that an adaptive controller steers to; nothing: kl_coef is fixed",
    )
    gamma: Share = Field(1.0, description="discount")
    lam: Share = Field(0.95, description="lambda of GAE")
    cliprange: float = Field(0.2, gt=0, description="ratio clipping of the policy loss")
    cliprange_value: float = Field(0.2, gt=0, description="clipping of the value loss")
    vf_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    entropy_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    whiten_rewards: bool = Field(False, description="scale the scores of a rollout to a deviation of 1")
    score_clip: float = Field(5.0, gt=0, description="normalised scores are clipped to +- this")
    missing_eos_penalty: float = Field(
        1.0, ge=0, description="taken off the score of an answer that does not end"
    )
    value_lr: float | None = Field(
        None, gt=0, description="learning rate of the value head; nothing: 10 times lr"
    )
    sample_every: Positive = Field(10, description="steps between tables of sampled answers")

    @model_validator(mode="after")
    def _check(self) -> PpoConfig:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants: two have the same name ({', '.join(names)})")
        if self.batch_size % self.num_mini_batches:
            raise ValueError(
                f"batch_size {self.batch_size} can't be cut into {self.num_mini_batches} mini-batches"
            )
        return self


class EvaluateConfig(Config):
    """What the report measures."""

    split: str = Field("test", description="split of the data that nothing was trained on")
    prompts: Positive = Field(256, description="prompts answered by every policy, image and text mixed")
    pairs: Positive = Field(512, description="preference records scored by the reward model")
    temperature: float = Field(1.0, ge=0, description="of the answers that are measured; 0: the likeliest")
    samples: Positive = Field(6, description="pictures with every policy's answer in the report")
    batch_size: Positive = Field(64, description="prompts of one generation batch")


class EngineConfig(Config):
    """The training loop around every stage."""

    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the GPU has it, else no"
    )
    checkpoint_every: Positive = Field(50, description="steps between checkpoints")
    keep_checkpoints: Positive = Field(2, description="older ones are deleted")
    tensorboard: bool = Field(True, description="write TensorBoard files beside metrics.jsonl")


def _read_data(value: Any) -> Any:
    """A section of its own, or a folder's name; a mistake keeps the path of its key, which a union would blur."""
    if isinstance(value, dict):
        return validate_nested(value, DataConfig)
    if not isinstance(value, DataConfig | str):
        raise ValueError("needs a section with sources, or the folder of a data set that is built")
    return value


class RunConfig(Config):
    """A whole run: data, then each stage that is there, then the report."""

    name: str = Field(
        description="the run's folder is output_dir/name", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
    )
    output_dir: str = Field("runs", description="where run folders are made")
    seed: int = Field(0, ge=0, description="seeds the order of the data, new weights and sampling")
    model: ModelConfig = ModelConfig()
    data: Annotated[DataConfig | str, BeforeValidator(_read_data)] = Field(
        description="how to build the data set, or the folder of one that is built"
    )
    sft: SftConfig | None = None
    reward: RewardConfig | None = None
    ppo: PpoConfig | None = None
    evaluate: EvaluateConfig | None = None
    engine: EngineConfig = EngineConfig()

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        if self.ppo and not self.reward:
            raise ValueError("ppo needs a reward section: it says which objectives there are")
        return self

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """The model settings in force for a stage."""
        return stage.model or self.model
