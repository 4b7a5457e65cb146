"""The typed configs of a run. One YAML file holds them all; every default here is the vetted setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from data_tools.build import DataConfig
from data_tools.config import Config, validate_nested
from data_tools.errors import UserError
from mmrlhf.rewards.scalarizers import Scalarizer, ScalarizerBase, WeightedSum

if TYPE_CHECKING:
    import torch

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
BEFORE_PPO = ("sft", "base")  # what reports call the policy that PPO starts from


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
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), description="AdamW's moment decays")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, on matrices only")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")


class StageConfig(Config):
    """What every training stage has."""

    model: ModelConfig | None = Field(
        None, description="what this stage sets otherwise in the run's model; all the rest is as there"
    )
    optim: OptimConfig = OptimConfig()
    micro_batch_size: Positive = Field(8, description="rows of one forward and backward on one process")
    max_prompt_tokens: Positive = Field(
        1024, description="longer prompts are refused, with their count in the log"
    )
    max_answer_tokens: Positive = Field(512, description="longer answers are cut")

    @field_serializer("model")
    def _only_what_is_set(self, value: ModelConfig | None, info: SerializationInfo) -> dict[str, Any] | None:
        # with the defaults written out, a config that is read back would override all of the run's model
        return None if value is None else value.model_dump(mode=info.mode, exclude_unset=True)


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
    generate_batch_size: Positive = Field(
        64, description="prompts answered at a time; fewer need less memory for their keys and values"
    )
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
    score_clip: float = Field(
        5.0, gt=0, description="normalised rewards are clipped to +- this before they are combined"
    )
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
        mistakes = [*self._missing_sections(), *self._wrong_models(), *self._wrong_scalarizers()]
        if mistakes:
            raise ValidationError.from_exception_data("RunConfig", mistakes)
        return self

    def _missing_sections(self) -> Iterator[InitErrorDetails]:
        if not self.reward:
            if self.ppo:
                yield _mistake("needs a reward section: it says which objectives there are", "ppo")
            if self.evaluate:
                yield _mistake("needs a reward section: its model judges every answer", "evaluate")

    def _wrong_models(self) -> Iterator[InitErrorDetails]:
        """A stage's settings may be well by themselves and still not fit those of the run."""
        for name in ("sft", "reward", "ppo"):
            stage: StageConfig | None = getattr(self, name)
            try:
                _ = stage and self.stage_model(stage)
            except ValidationError as error:
                for item in error.errors():
                    message = item["msg"].removeprefix("Value error, ")
                    yield _mistake(f"with the run's model: {message}", name, "model", *item["loc"])

    def _wrong_scalarizers(self) -> Iterator[InitErrorDetails]:
        if not (self.ppo and self.reward):
            return
        for index, variant in enumerate(self.ppo.variants):
            own = variant.scalarizer
            try:
                if not isinstance(own, ScalarizerBase):
                    raise UserError(
                        f"{type(own).__name__} is not made from {ScalarizerBase.__module__}:ScalarizerBase"
                    )
                own.check(self.reward.objectives)
            except UserError as error:
                yield _mistake(str(error), "ppo", "variants", index, "scalarizer")

    def stage_model(self, stage: StageConfig) -> ModelConfig:
        """The model settings in force for a stage: the run's, with what the stage's own section sets (of `lora` too).

        Raises:
            ValidationError: the two together are no model. `RunConfig` itself refuses that of its own stages.
        """
        if stage.model is None:
            return self.model
        return ModelConfig.model_validate(
            _merged(self.model.model_dump(), stage.model.model_dump(exclude_unset=True))
        )

    def starts_from_sft(self, stage: StageConfig) -> bool:
        """Whether a stage goes on from the SFT model: the run has one, and the stage names no model of its own."""
        own = stage.model is not None and "path" in stage.model.model_fields_set
        return self.sft is not None and not own

    @property
    def before_ppo(self) -> str:
        """What reports call the policy that PPO starts from: sft, or base where that is no SFT model."""
        sft, base = BEFORE_PPO
        return sft if self.starts_from_sft(self.ppo or StageConfig()) else base


def _mistake(message: str, *path: str | int) -> InitErrorDetails:
    """A mistake at the path of its key, which a ValueError of a whole section wouldn't have."""
    error = PydanticCustomError("config", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=path, input={})


def _merged(row: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`row` with the values of `own` in place of its own, section by section."""
    nested = {
        key: _merged(row[key], value)
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(row.get(key), dict)
    }
    return {**row, **own, **nested}
