"""What every stage has: a model, an optimizer, micro-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializationInfo, field_serializer, model_validator

from data_tools.config import Config, PathText

if TYPE_CHECKING:
    import torch

Positive = Annotated[int, Field(ge=1)]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000)]
Epochs = Annotated[float, Field(gt=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


def set_otherwise(section: Config, *names: str) -> list[str]:
    """Those of a section's settings that somebody set to something else than their default. A config that a run wrote
    holds all defaults too, so that a default that is written out says nothing."""
    fields = type(section).model_fields
    return [
        name
        for name in names
        if name in section.model_fields_set
        and getattr(section, name) != fields[name].get_default(call_default_factory=True)
    ]


class LoraSettings(Config):
    """Low-rank adapters on linear layers: of the language model and, where they are asked for, of what sees."""

    r: Positive = Field(16, description="rank")
    alpha: float = Field(
        32, gt=0, description="scale; the update is alpha / r times the product of the two factors"
    )
    targets: list[str] | None = Field(
        None,
        min_length=1,
        description="last names of the linear layers, such as q_proj, each of which must be in `parts`; nothing: all "
        "of those in `parts`",
    )
    parts: list[Literal["language", "projector", "vision"]] = Field(
        ["language"],
        min_length=1,
        description="where adapters go; with projector or vision, image features are made anew for each forward",
    )


class ModelConfig(Config):
    """Which model, and which of its parts are trained."""

    path: PathText = Field("tiny", description="model directory, hub id, or 'tiny' (the bundled one)")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the weights; auto: bfloat16 on a GPU, float32 on a CPU and in full fine-tuning",
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field(
        "auto", description="attention kernel; auto: sdpa in every part of the model that has it, else eager"
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
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is above max_pixels {self.max_pixels}")
        if self.lora and not (self.freeze_vision_tower and self.freeze_projector):
            # else the model with its adapters off would no longer be the reference
            raise ValueError(
                "with lora only adapters are trained: leave freeze_vision_tower and freeze_projector true, and name "
                "in lora.parts what adapters go into besides the language model"
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

    name: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit keeps AdamW's moments in 8 bits: 2 bytes a trained parameter in place of 8, for full "
        "fine-tuning; needs mmrlhf[8bit]",
    )
    lr: float = Field(1e-5, gt=0, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="from the peak towards lr * final"
    )
    final: Share = Field(0.1, description="the last learning rate as a share of the peak")
    warmup: Share = Field(0.03, description="share of the steps in which the rate rises from 0")
    betas: tuple[Decay, Decay] = Field((0.9, 0.95), description="AdamW's moment decays")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay, on matrices only")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")

    @model_validator(mode="after")
    def _check(self) -> OptimConfig:
        if self.schedule == "constant" and set_otherwise(self, "final"):
            raise ValueError(
                "final: does nothing with schedule: constant, whose rate stays at its peak; set schedule to linear or "
                "cosine, or leave final out"
            )
        return self


class StageConfig(Config):
    """What every training stage has."""

    model: ModelConfig | None = Field(
        None, description="what this stage sets otherwise in the run's model; all the rest is as there"
    )
    optim: OptimConfig = OptimConfig()
    micro_batch_size: BatchSize = Field(8, description="rows of one forward and backward on one process")
    micro_batch_tokens: Positive | None = Field(
        None,
        description="padded tokens of one forward, image tokens included; nothing: only micro_batch_size counts",
    )
    max_prompt_tokens: Positive = Field(
        1024,
        description="longer prompts are left out, with their share in the metrics; so are those that leave no room for "
        "an answer in what the model reads",
    )
    max_refused: Share = Field(
        0.1,
        description="share of the records that may be left out (too long, a damaged image, a reward that isn't "
        "finite) before the run stops",
    )
    max_answer_tokens: Positive = Field(512, description="longer answers are cut")
    best_by: str | None = Field(
        None,
        min_length=1,
        description="a metric, such as score, or -loss where the lowest is best: the best checkpoint by its mean over "
        "the steps between two checkpoints is kept too, and becomes the model; nothing: the last one does",
    )

    @field_serializer("model")
    def _only_what_is_set(self, value: ModelConfig | None, info: SerializationInfo) -> dict[str, Any] | None:
        # with the defaults written out, a config that is read back would override all of the run's model
        return None if value is None else value.model_dump(mode=info.mode, exclude_unset=True)
