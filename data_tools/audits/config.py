"""The audit of a build, as its config has it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from data_tools.audits.run import chosen_audits
from data_tools.config import Config
from data_tools.errors import UserError


class AuditSettings(Config):
    """An audit of what was read beside what was built, as `mmrlhf data audit --compare` makes one."""

    max_pairs: int = Field(
        default=20_000, ge=100, description="Look at most at so many pairs of a split, source and kind."
    )
    against: list[Path] = Field(
        default=[], description="Benchmark files that the data should share nothing with."
    )
    only: list[str] = Field(default=[], description="Only these audits, by name; empty is all.")

    @field_validator("only")
    @classmethod
    def _only(cls, value: list[str]) -> list[str]:
        try:
            chosen_audits(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value
