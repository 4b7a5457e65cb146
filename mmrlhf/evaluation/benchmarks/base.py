"""What the benchmarks share: reading a local copy's rows, images in any of the forms they come in, and shares by group.

A row that can't be read is refused with a reason, and nothing here raises on one. Left out on purpose: downloading, and
judging by a prompt (a reward model scores each answer by itself, so the order of a row's two answers can't matter).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.adapters.base import (
    Rejected,
    RowError,
    check_text,
    guarded,
    messages_with_images,
    take_image,
    take_text,
)
from data_tools.intervals import Estimate, share_right
from data_tools.rows.open import all_rows
from data_tools.schema import Comparison, ImageRef, Message, Part, PreferenceRecord, Response

OBJECTIVE = "preference"  # what a benchmark's rows are judged on, until the caller names heads
MARK = "<image>"
_DATA = re.compile(
    r"data:image/[a-z0-9+.-]+(?:;[^;,\s]*)*?;base64,", re.IGNORECASE
)  # parameters mean nothing here
_SPACE = re.compile(r"\s+")
# how files of the known formats begin, in base64: bare text that begins so is an image, any other is a path
_MAGIC = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk")
_SHORTEST = 64  # characters of base64: no image is smaller, and a path that begins with /9j/ may be

Scores = dict[str, Estimate]  # name of a score -> its value


@dataclass(frozen=True)
class Outcome:
    """Whether one comparison of a record was right."""

    record: PreferenceRecord
    right: bool
    whole: bool = True  # all comparisons of its sample are there, of benchmarks that have samples of several


@dataclass(frozen=True)
class LostRow(Rejected):
    """A row that is no record, and the sample of several rows that it belongs to."""

    sample: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark: how its rows are read, and what is made of what a model gets right.

    `convert` raises RowError (or SchemaError) for a row that can't be a record; `read` turns that into a reason.
    """

    name: str
    title: str
    convert: Callable[
        [dict[str, Any], Path, str], PreferenceRecord
    ]  # row, folder of its images, where it stands
    score: Callable[[Sequence[Outcome], int], Scores]  # what was right, and the seed of the intervals
    sample: Callable[[dict[str, Any]], str] | None = (
        None  # the name of a row's sample, where samples have several
    )

    def adapt(self, row: object, images: Path, where: str = "row") -> PreferenceRecord | Rejected:
        """A row as a record with one comparison on `OBJECTIVE`, or the reason why not: a `LostRow` where its sample is
        known."""
        found = guarded(lambda fields: self.convert(fields, images, where), row, where)
        if self.sample is None or not isinstance(found, Rejected) or not isinstance(row, dict):
            return found
        try:
            return LostRow(found.reason, found.where, found.code, sample=self.sample(row))
        except RowError:
            return found

    def read(
        self, files: Sequence[Path], images: Path | None = None
    ) -> Iterator[PreferenceRecord | Rejected]:
        """All rows of the files: JSON lines, a JSON list, or parquet. Image paths are below `images`, by default the
        file's own folder.

        Raises:
            UserError: a file can't be read as a whole.
        """
        for path in files:
            for item in all_rows(path):
                if isinstance(item, Rejected):
                    yield item
                else:
                    yield self.adapt(item[1], images or path.parent, item[0])


def take_images(value: object, folder: Path) -> tuple[ImageRef, ...]:
    """A row's image, or list of images: bytes, a path below the folder, base64 or a data address; at least one."""
    if value is None:
        raise RowError("has no image")
    given = value if isinstance(value, list) else [value]
    if not given:
        raise RowError("has no image")
    return tuple(take_image(_decoded(item), folder) for item in given)


def path_of(value: object) -> str | None:
    """The path that an image is named by in its row; None where the row holds the image itself."""
    if isinstance(value, dict):
        value = value.get("path")
    return value if isinstance(value, str) and _decoded(value) is value else None


def _decoded(value: object) -> object:
    """What `take_image` takes: base64 text as bytes, anything else as it is."""
    if isinstance(value, dict) and isinstance(value.get("bytes"), str):
        value = value["bytes"]  # a parquet row that was written as JSON
    if isinstance(value, bytes):
        return {"bytes": value}
    if not isinstance(value, str):
        return value
    text = value.strip()
    address = _DATA.match(text)
    if not address and (not text.startswith(_MAGIC) or len(text) < _SHORTEST):
        return value
    coded = _SPACE.sub("", text[address.end() if address else 0 :])  # some write it in lines
    try:
        return {"bytes": base64.b64decode(coded, validate=True)}
    except (binascii.Error, ValueError) as error:
        if address:
            raise RowError("an image's base64 is damaged") from error
        return value


def question(text: str, images: Sequence[ImageRef]) -> tuple[Message, ...]:
    """A user's turn: the images where the text marks them, or before it where it marks none."""
    if MARK in text:
        return messages_with_images([("user", text)], images, MARK)
    return (Message("user", (*(Part(image=i) for i in range(len(images))), Part(text=text))),)


def two_answers(first: str, second: str, better: int) -> tuple[tuple[Response, ...], tuple[Comparison, ...]]:
    """Both answers in the row's order and the comparison between them; they must differ."""
    if first == second:
        raise RowError("the two answers are the same")
    return (Response(first), Response(second)), (Comparison(OBJECTIVE, better=better, worse=1 - better),)


def pair_record(
    source: str,
    where: str,
    text: str,
    images: tuple[ImageRef, ...],
    answers: tuple[tuple[Response, ...], tuple[Comparison, ...]],
    provenance: dict[str, Any],
) -> PreferenceRecord:
    """A row's question with its images and what `two_answers` made of the rest."""
    responses, comparisons = answers
    return PreferenceRecord(
        id=f"{source}-{where}",
        source=source,
        prompt=question(text, images),
        images=images,
        responses=responses,
        comparisons=comparisons,
        split="test",
        provenance=provenance,
    )


def take_name(row: dict[str, Any], key: str) -> str:
    """A field that names something: text, or a whole number."""
    value = row.get(key)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else take_text(row, key)


def group_scores(outcomes: Sequence[Outcome], seed: int) -> Scores:
    """The share right of each group (`provenance["group"]`), by its name."""
    groups: dict[str, list[bool]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.record.provenance["group"], []).append(outcome.right)
    return {name: e for name, right in sorted(groups.items()) if (e := share_right(right, seed))}


__all__ = [
    "OBJECTIVE",
    "Benchmark",
    "LostRow",
    "Outcome",
    "RowError",
    "Scores",
    "check_text",
    "group_scores",
    "pair_record",
    "path_of",
    "share_right",
    "take_images",
    "take_name",
    "take_text",
    "two_answers",
]
