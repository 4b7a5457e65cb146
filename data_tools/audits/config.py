"""The audit of a build, as its config has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from data_tools.audits.contamination import Contamination
from data_tools.audits.run import chosen_audits
from data_tools.config import Config
from data_tools.errors import UserError
from data_tools.rows.open import pieces


class AuditSettings(Config):
    """An audit of what was read beside what was built, as `mmrlhf data audit --compare` makes one."""

    max_pairs: int = Field(
        default=20_000, ge=100, description="Look at most at so many pairs of a split, source and kind."
    )
    against: list[Path] = Field(
        default=[], description="Benchmark files that the data should share nothing with."
    )
    only: list[str] = Field(default=[], description="Only these audits, by name; empty is all.")

    def files(self) -> Sequence[Path]:
        """The benchmark files, those in folders too."""
        return tuple(dict.fromkeys(Path(piece.path) for path in self.against for piece in pieces(path)))

    @field_validator("only")
    @classmethod
    def _only(cls, value: list[str]) -> list[str]:
        try:
            chosen_audits(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _does_something(self) -> AuditSettings:
        if self.against and self.only and Contamination.name not in self.only:
            raise ValueError(
                "against: does nothing where only leaves out the audit contamination; add it, or leave against out"
            )
        return self
