"""Whether an answer has the form that was asked for. It says nothing of what the answer says."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, Values

_END = re.compile(r"[.!?\u2026]+[\"')\]\u201d\u2019]*(?=\s|$)|[\u3002\uff01\uff1f]+")


class Format(ObjectiveBase):
    """1 where the answer meets all conditions that are set, else 0."""

    looks: ClassVar[bool] = False

    type: Literal["format"] = "format"
    pattern: str | None = Field(
        None, description="a regular expression that the whole answer matches; (?s) lets a dot take line ends"
    )
    valid_json: bool = Field(False, description="the answer is JSON, and nothing else stands around it")
    json_keys: list[str] = Field(
        [], description="the answer is a JSON object with these keys, and maybe others"
    )
    min_sentences: int | None = Field(None, ge=1, description="at least so many sentences")
    max_sentences: int | None = Field(
        None, ge=1, description="at most so many; what ends in . ! or ? is one, and so is a rest without"
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _check(self) -> Format:
        low, high = self.min_sentences, self.max_sentences
        if (
            self.pattern is None
            and not self.valid_json
            and not self.json_keys
            and low is None
            and high is None
        ):
            raise ValueError(
                "asks for nothing: set pattern, valid_json, json_keys, min_sentences or max_sentences"
            )
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_sentences {low} is above max_sentences {high}")
        return self

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [float(self._holds(text)) for text in texts]

    def _holds(self, text: str) -> bool:
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return False
        if (self.valid_json or self.json_keys) and not self._is_json(text):
            return False
        if self.min_sentences is None and self.max_sentences is None:
            return True
        count = count_sentences(text)
        return (
            (self.min_sentences or 0)
            <= count
            <= (count if self.max_sentences is None else self.max_sentences)
        )

    def _is_json(self, text: str) -> bool:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return not self.json_keys or (isinstance(value, dict) and set(self.json_keys) <= value.keys())


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def count_sentences(text: str) -> int:
    """Pieces that end in . ! ? or the like before a space or the end, and a rest that has no end. An abbreviation
    counts as an end, a decimal point doesn't."""
    pieces = _END.split(text)
    return sum(bool(re.search(r"\w", piece)) for piece in pieces)
