"""r = -slope max(0, |n - target| - tolerance) / target: how far an answer's length n is from the one that is wanted.

It is a function of the text alone. Tokens are those of the tokenizer that is named, not those that the policy happened
to sample: the same text may be written in several ways, and a policy could choose among them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from data_tools.config import PathText
from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, Values


class Length(ObjectiveBase):
    """0 at the length that is wanted, less the further an answer is from it."""

    looks: ClassVar[bool] = False

    type: Literal["length"] = "length"
    unit: Literal["words", "characters", "tokens"] = Field(
        "words", description="what is counted; words are what spaces part"
    )
    target: int = Field(ge=1, description="the length that is wanted")
    tolerance: int = Field(0, ge=0, description="so far from it on either side is as good")
    slope: float = Field(
        1.0, gt=0, description="taken off for an answer that is too long by its target once more"
    )
    sides: Literal["both", "above", "below"] = Field(
        "both", description="what counts: any distance, only what is too long, or only what is too short"
    )
    tokenizer: PathText | None = Field(
        None, description="directory or hub id of the tokenizer that tokens are counted with"
    )

    @model_validator(mode="after")
    def _check(self) -> Length:
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError("unit: tokens needs a tokenizer, and the other units have none")
        return self

    def check(self) -> None:
        self.open()

    def open(self) -> None:
        if self.unit == "tokens":
            _ = self._tokenizer

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [self._value(self._count(text)) for text in texts]

    def _value(self, count: int) -> float:
        off = count - self.target
        far = {"both": abs(off), "above": off, "below": -off}[self.sides] - self.tolerance
        return -self.slope * max(0, far) / self.target

    def _count(self, text: str) -> int:
        if self.unit == "tokens":
            return len(self._tokenizer.encode(text, add_special_tokens=False))
        return len(text.split()) if self.unit == "words" else len(text)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.tokenizer)
        except (OSError, ValueError) as error:
            raise UserError(f"objective {self.name}: no tokenizer at {self.tokenizer}: {error}") from error
