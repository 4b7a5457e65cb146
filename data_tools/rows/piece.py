"""A piece of a source's input that can be read by itself, on any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["lines", "list", "parquet", "tar", "arrow"]


@dataclass(frozen=True)
class Piece:
    """Some rows of one file: `start` to `stop` (None: to its end) in what the form counts in.

    `place` is what its rows' places begin with, the file's name below the source's folder; `first` is the number of its
    first row, so that a row's place is the same however the file is divided. `split` is the split that the data set has
    its rows in (None: it has none).
    """

    path: str
    form: Form
    place: str
    start: int = 0  # lines: bytes; parquet: row groups; the other forms are read whole
    stop: int | None = None
    first: int = 0
    key: str | None = None  # of a JSON object of lists: the list that is meant
    split: str | None = None
