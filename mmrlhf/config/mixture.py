"""How the sources of a stage's data are mixed over its steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from data_tools.balance.adaptive import AdaptiveRule
from data_tools.config import Config, plugin
from mmrlhf.config.base import Positive


class FixedMixture(Config):
    """Each source as often as the data set plans it, from the first step to the last."""

    type: Literal["fixed"] = "fixed"


class AdaptiveMixture(AdaptiveRule):
    """Sources that the model judges better with the image than without are drawn more often, within bounds."""

    type: Literal["adaptive"] = "adaptive"
    every: Positive = Field(
        50,
        description="steps from one measurement to the next: accuracy with the image and without, by source, after "
        "which the shares change",
    )
    held_out: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of the records that those measured are taken from; they, and all that shares a picture with "
        "them, are kept out of training",
    )
    most: Positive = Field(64, description="records measured of a source, at most; no more are kept out")

    @model_validator(mode="after")
    def _check(self) -> AdaptiveMixture:
        if self.floor == 1:
            raise ValueError(
                "floor: at 1 each source keeps its planned share, so that nothing changes; set it below 1, or the type "
                "to fixed"
            )
        return self


Mixing = plugin(FixedMixture, AdaptiveMixture)
