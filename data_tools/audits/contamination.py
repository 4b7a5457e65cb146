"""Contamination: what the data shares with benchmark files that a model will be measured on.

A text is contaminated where it holds a run of 13 words of a benchmark's text (the length of T. Brown et al., Language
Models are Few-Shot Learners, 2020), or is a whole text of it of at least `SHORTEST` words; a picture, where its bytes
or its look are those of one of its pictures. Questions about other pictures may well be worded alike, so a record with
pictures counts as contaminated by its pictures only.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from data_tools.adapters.base import RowError, take_image
from data_tools.audits.base import Audit, AuditResult, Data, Example, Finding, Metric, Scope, Table
from data_tools.audits.near_texts import run_hashes, words_of
from data_tools.audits.pictures import Pictures, pictures_of
from data_tools.images import read_bytes
from data_tools.rows.open import all_rows
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected

if TYPE_CHECKING:
    import numpy as np

RUN = 13  # words
SHORTEST = 5  # words of a text that counts as a whole
PICTURE_FIELDS = ("image", "images", "image_path", "img_path", "filename", "jpg", "png")
SHOWN = 6


class Contamination(Audit):
    """What the data shares with the benchmark files given with `--against`."""

    name = "contamination"
    title = "Contamination"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "contamination": Metric(
            "Records that share a picture, or, without pictures, a text with a benchmark.", base=0.0
        ),
        "contaminated_texts": Metric("Records that share a text with a benchmark.", base=0.0),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._pictures = pictures_of(data)
        self._benchmarks = [Benchmark(path) for path in data.options.against]
        self._splits, self._indices = array("B"), array("L")
        self._texts = [bytearray() for _ in self._benchmarks]
        self._pictured = bytearray()
        self._shown_by, self._shown = array("L"), array("L")

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        if not self._benchmarks:
            return
        number = len(self._splits)
        self._splits.append(self.data.splits.index(split))
        self._indices.append(index)
        self._pictured.append(bool(row["images"]))
        for picture in self._pictures.of(split, index, row):
            self._shown_by.append(number)
            self._shown.append(picture)
        for flags, benchmark in zip(self._texts, self._benchmarks, strict=True):
            flags.append(benchmark.holds(row))

    def finish(self) -> AuditResult:
        import numpy as np

        if not self._benchmarks:
            return self.result("No benchmark was given to compare with (--against FILE).")
        splits = np.asarray(self._splits)
        findings, rows, examples = list[Finding](), list[tuple[Any, ...]](), list[Example]()
        either, worded = np.zeros(len(splits), bool), np.zeros(len(splits), bool)
        for flags, benchmark in zip(self._texts, self._benchmarks, strict=True):
            texts = np.frombuffer(flags, np.uint8) > 0
            seen = benchmark.shared_pictures(self._pictures)
            pictures = np.zeros(len(splits), bool)
            shown = np.isin(np.asarray(self._shown, np.int64), seen)
            pictures[np.asarray(self._shown_by, np.int64)[shown]] = True
            hit = pictures | (texts & (np.frombuffer(self._pictured, np.uint8) == 0))
            either, worded = either | hit, worded | texts
            rows.append(
                (
                    benchmark.name,
                    benchmark.rows,
                    len(benchmark.pictures),
                    int(texts.sum()),
                    int(pictures.sum()),
                )
            )
            examples += [
                Example(
                    f"shares a {'picture' if pictures[at] else 'text'} with {benchmark.name}",
                    (self._place(at),),
                )
                for at in np.flatnonzero(hit)[:SHOWN]
            ]
        for number, name in enumerate(self.data.splits):
            members = splits == number
            if members.any():
                findings.append(Finding("contamination", float(either[members].mean()), Scope(split=name)))
                findings.append(
                    Finding("contaminated_texts", float(worded[members].mean()), Scope(split=name))
                )
        columns = (
            "benchmark",
            "its rows",
            "its pictures",
            "records with a text of it",
            "records with a picture of it",
        )
        return self.result(
            f"{int(either.sum()):,} of {len(splits):,} records share a picture, or without pictures a text, with "
            f"{', '.join(benchmark.name for benchmark in self._benchmarks)}.",
            findings,
            tables=(Table("Shared with benchmarks", columns, tuple(rows)),),
            examples=tuple(examples),
            notes=tuple(note for benchmark in self._benchmarks for note in benchmark.notes),
        )

    def _place(self, record: int) -> tuple[str, int]:
        return self.data.splits[self._splits[record]], int(self._indices[record])


class Benchmark:
    """The texts and pictures of a benchmark's rows, as hashes."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.name, self.rows, self.notes = path.name, 0, list[str]()
        self.pictures = Pictures(_unread)
        self._by_bytes: set[int] = set()
        runs, wholes, lost = list[np.ndarray](), list[np.ndarray](), 0
        for item in all_rows(path):
            if isinstance(item, Rejected) or not isinstance(item[1], dict):
                lost += 1
                continue
            self.rows += 1
            for words in map(words_of, _strings(item[1])):
                if len(words) >= RUN:
                    runs.append(run_hashes(words, RUN))
                if len(words) >= SHORTEST:
                    wholes.append(run_hashes(words, len(words)))
            self._add_pictures(item[1], path.parent)
        self._runs = np.unique(np.concatenate([np.empty(0, np.uint64), *runs]))
        self._wholes = np.unique(np.concatenate([np.empty(0, np.uint64), *wholes]))
        if lost:
            self.notes.append(f"{self.name}: {lost:,} rows can't be read and weren't compared.")

    def _add_pictures(self, row: dict[str, Any], folder: Path) -> None:
        for field in PICTURE_FIELDS:
            value = row.get(field)
            for item in value if isinstance(value, list) else [value]:
                if item is None:
                    continue
                try:
                    image = take_image(item, folder)
                except RowError as error:
                    note = f"{self.name}: pictures of the field {field} can't be read: {error}."
                    if note not in self.notes:
                        self.notes.append(note)
                    continue
                self._by_bytes.add(int(image.sha256[:16], 16))
                self.pictures.add(read_bytes(image))

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a text of the record shares a run of words with the benchmark, or is a whole text of it."""
        for words in map(words_of, _record_texts(row)):
            if len(words) >= RUN and _any_in(run_hashes(words, RUN), self._runs):
                return True
            if len(words) >= SHORTEST and _any_in(run_hashes(words, len(words)), self._wholes):
                return True
        return False

    def shared_pictures(self, pictures: Pictures) -> np.ndarray:
        """The numbers of those pictures that are the benchmark's, by their bytes or their look."""
        return pictures.shared_with(self.pictures, self._by_bytes)


def _unread(split: str, index: int) -> PreferenceRecord:
    raise LookupError("a benchmark's pictures are added one by one, not read from records")


def _any_in(values: np.ndarray, ranked: np.ndarray) -> bool:
    import numpy as np

    if not len(ranked):
        return False
    place = np.minimum(np.searchsorted(ranked, values), len(ranked) - 1)
    return bool((ranked[place] == values).any())


def _record_texts(row: dict[str, Any]) -> Iterator[str]:
    for message in row["prompt"]:
        yield " ".join(part["text"] for part in message["content"] if part["type"] == "text")
    for answer in row["responses"]:
        yield answer["text"]


def _strings(value: object) -> Iterator[str]:
    """All texts in a row, however deep they lie."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
