"""What the benchmarks share: reading a local copy's rows, images in any of the forms they come in, and shares by group.

A row that can't be read is refused with a reason, and nothing here raises on one. Left out on purpose: downloading, and
judging by a prompt (a reward model scores each answer by itself, so the order of a row's two answers can't matter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.adapters.base import (
    Rejected,
    RowError,
    check_text,
    guarded,
    question,
    take_images,
    take_text,
)
from data_tools.base64_images import path_of
from data_tools.intervals import Estimate, clustered_share
from data_tools.rows.open import all_rows, image_folder
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response

OBJECTIVE = "preference"  # what a benchmark's rows are judged on, until the caller names heads
Scores = dict[str, Estimate]  # name of a score -> its value


@dataclass(frozen=True)
class Outcome:
    """Whether one comparison of a record was right."""

    record: PreferenceRecord
    right: bool
    cluster: int  # the same for what hangs together, such as by its image
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
    score: Callable[[Sequence[Outcome]], Scores]  # of what was right
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
        """All rows of the files, or of folders: JSON lines, Parquet, tars and what else `data_tools.rows.open` reads.
        Image paths are below `images`, by default the folder, or the file's own.

        Raises:
            UserError: a file can't be read as a whole.
        """
        for path in files:
            for item in all_rows(path):
                if isinstance(item, Rejected):
                    yield item
                else:
                    yield self.adapt(item[1], images or image_folder(path), item[0])


def two_answers(first: str, second: str, better: int) -> tuple[tuple[Response, ...], tuple[Comparison, ...]]:
    """Both answers in the row's order and the comparison between them; they must differ."""
    if first == second:
        raise RowError("the two answers are the same", "same-answers")
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


def share_right(outcomes: Sequence[Outcome]) -> Estimate | None:
    """The share that is right; None of nothing."""
    return clustered_share([o.right for o in outcomes], [o.cluster for o in outcomes])


def category_scores(outcomes: Sequence[Outcome]) -> Scores:
    """The share right of each category (`provenance["category"]`), by its name."""
    parts: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault(outcome.record.provenance["category"], []).append(outcome)
    return {name: e for name, part in sorted(parts.items()) if (e := share_right(part))}


__all__ = [
    "OBJECTIVE",
    "Benchmark",
    "LostRow",
    "Outcome",
    "RowError",
    "Scores",
    "category_scores",
    "check_text",
    "pair_record",
    "path_of",
    "share_right",
    "take_images",
    "take_name",
    "take_text",
    "two_answers",
]
