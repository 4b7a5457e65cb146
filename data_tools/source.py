"""What every source of records shares: a name, the splits, and a method that yields its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, field_validator

from data_tools.config import Config
from data_tools.schema import PreferenceRecord
from data_tools.splits import DEFAULT_SPLITS, check_splits


@dataclass(frozen=True)
class Rejected:
    """A row that is no record: why (the same words for the same fault, so that they can be counted), and
    where.
    """

    reason: str
    where: str


class Source(Config):
    """Base of adapters and recipes. A user's own source subclasses it and overrides `generate`; if it reads files,
    `files` too.
    """

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="The source's name: part of ids and file names (a-z, 0-9, _, -).",
    )
    splits: dict[str, float] = Field(
        default=DEFAULT_SPLITS,
        min_length=1,
        description="The share of each split; what shares an image, flip pair or question stays together. Only one "
        "split fixes it: {test: 1.0}.",
    )

    @field_validator("splits")
    @classmethod
    def _splits(cls, value: dict[str, float]) -> dict[str, float]:
        return check_splits(value)

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """The source's records, in the same order for the same seed, and the rows it had to reject.

        Their `split` is set by the build (see `data_tools.splits`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no generate method")

    def files(self) -> Sequence[Path]:
        """The files that `generate` reads rows from: a finished data set is kept only while these are the same."""
        return ()
