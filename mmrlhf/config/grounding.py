"""What keeps a reward model looking at the image; each term is off at a weight of 0."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from data_tools.config import Config
from mmrlhf.config.base import Share, set_otherwise


class ImageConditional(Config):
    """The same better answer, preferred on the true image over a degraded one."""

    weight: float = Field(
        0.0,
        ge=0,
        description="what such a pair counts beside a plain one; above 0 each image record costs a row more",
    )
    kinds: list[Literal["crop", "swap", "noise"]] = Field(
        ["crop", "swap", "noise"],
        min_length=1,
        description="degraded images, by turns from pass to pass: a small part, another record's image, noise",
    )
    objectives: list[str] | None = Field(
        None, min_length=1, description="those that hang on the image; nothing: all of the reward model's"
    )

    @model_validator(mode="after")
    def _check(self) -> ImageConditional:
        _at_no_weight(self, "kinds", "objectives")
        return self


class Reweight(Config):
    """Pairs that a text-only branch gets right count less, those that it gets wrong more."""

    weight: Share = Field(
        0.0,
        description="of comparisons of two responses, not of rankings. 0: every pair counts 1; "
        "1: as the share of its loss that the text alone leaves, over the mean; "
        "between: a mixture. Above 0 each image record is read once more without its image, forward only",
    )
    lr: float = Field(
        1e-3, gt=0, description="peak learning rate of the text-only branch, which is new at the start"
    )

    @model_validator(mode="after")
    def _check(self) -> Reweight:
        _at_no_weight(self, "lr")
        return self


def _at_no_weight(term: ImageConditional | Reweight, *names: str) -> None:
    """Raises ValueError where settings of a term are set that is off."""
    if not term.weight and (idle := set_otherwise(term, *names)):
        raise ValueError(
            f"{', '.join(idle)}: does nothing at a weight of 0; set weight above 0, or leave {', '.join(idle)} out"
        )


class GroundingConfig(Config):
    """Terms of the reward model's loss against rewards that the text alone decides."""

    flips: float = Field(
        0.0,
        ge=0,
        description="image-flip pairs: what an answer under its own picture over the same answer under the other "
        "counts beside a plain pair; above 0 both halves come in one micro-batch",
    )
    image_conditional: ImageConditional = ImageConditional()
    reweight: Reweight = Reweight()
    length: float = Field(
        0.0,
        ge=0,
        description="squared correlation of reward gaps with length gaps, measured over earlier updates, counted once "
        "a comparison of two responses; rankings aren't penalised",
    )
