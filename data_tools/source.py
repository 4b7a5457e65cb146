"""What every source of records shares: a name, the splits, and a method that yields its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from data_tools.config import Config
from data_tools.rows.piece import Piece
from data_tools.schema import PreferenceRecord
from data_tools.splits import DEFAULT_SPLITS, check_splits

# why a row is no record, in a word that programs can count on
CODES = {
    "row-unreadable": "the row itself can't be read: damaged JSON, a sample cut short, no object",
    "field-missing": "a field that the format has isn't there",
    "field-wrong": "a field holds what the format doesn't allow",
    "text-empty": "a text is blank",
    "text-damaged": "a text can't be stored as UTF-8",
    "same-answers": "two answers that should differ are the same",
    "no-preference": "nothing was judged, or not in a way that says which answer is better",
    "tied": "neither answer is better, and the format has no tie: counted apart from malformed rows",
    "not-judged": "people were to judge the row, and nobody has yet: counted apart from malformed rows",
    "not-supported": "tools, or another thing that no record holds",
    "other-modality": "a row about a video or a sound, which no record holds: counted apart from malformed rows",
    "two-prompts": "two conversations that begin alike and differ before their last answers: counted apart from "
    "malformed rows",
    "media-unread": "a field holds a picture that the adapter doesn't read",
    "image-missing": "an image isn't there",
    "image-url": "an image is an address, and nothing is fetched",
    "image-outside": "an image's path leads out of its folder",
    "image-format": "no image, or of a format that isn't read",
    "image-size": "an image has too many pixels or bytes, or none",
    "image-truncated": "an image's end is missing",
    "image-damaged": "an image can't be decoded",
    "id-twice": "another row of the source has the same id",
    "schema": "the record would break another rule of the schema",
}

# codes of rows that are sound, and yet no record
APART = ("other-modality", "two-prompts", "tied", "not-judged")


@dataclass(frozen=True)
class Rejected:
    """A row that is no record: why (the same words for the same fault, so that they can be counted), and
    where.

    `code` is one of `CODES`; `row` is the row itself and `image` the bytes at fault, kept for the quarantine where they
    are at hand.
    """

    reason: str
    where: str
    code: str = "schema"
    row: Any = None
    image: bytes | None = None


# what a source reads at once: the records of a row (one, for most), or why it has none
Read = tuple[PreferenceRecord, ...] | Rejected


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

        Their `split` is the one that the data have them in; a conversion leaves them there, and a build sets it (see
        `data_tools.splits`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no generate method")

    def files(self) -> Sequence[Path]:
        """The files that `generate` reads rows from: a finished data set is kept only while these are the same."""
        return ()

    def origin(self) -> Sequence[str]:
        """What else tells which version of its input `generate` reads, of one that is fetched: an unfinished data set
        is gone on with only while this is the same.

        Raises:
            UserError: the input can't be read.
        """
        return ()

    def uncompared(self, pictured: bool) -> str:
        """What of its input isn't looked at when a finished data set is kept, in a few words; empty for nothing.
        `pictured`: records with pictures came of it.
        """
        return ""

    def passed_over(self) -> Sequence[str]:
        """Files that may hold rows but aren't read."""
        return ()

    def pieces(self) -> Sequence[Piece]:
        """The pieces of its input that can be read apart from one another, in their order; none where it can only be
        read as a whole.

        Raises:
            UserError: the input can't be read.
        """
        return ()

    def read(self, seed: int, piece: Piece | None = None) -> Iterator[Read]:
        """What `generate` gives, row by row; of one piece only, where it is given."""
        for item in self.generate(seed):
            yield item if isinstance(item, Rejected) else (item,)
