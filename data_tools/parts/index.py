"""What a build decides by, of each record: hashes and numbers in columns, so that a million records take little memory.

Records are read in parts; each part has its index, and `Index.load` lays those of all parts one behind the other, in
the order of the sources and their rows, however these were divided.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.dedup import judgements
from data_tools.hashes import as_hashes, hash16
from data_tools.labels import TYPE_OF, Rating
from data_tools.manifest import KINDS
from data_tools.parts.columns import load_columns, save_columns
from data_tools.schema import Modality, PreferenceRecord, content_hash
from data_tools.shard_writer import kind_of
from data_tools.splits import Keys, split_keys

MODALITIES: tuple[Modality, ...] = ("text", "image-text")
# by column: the array's type while it is collected, and how it lies in memory
_NUMBERS = {
    "row": "q",  # which row of its part it comes of, from 0
    "offset": "q",  # where it lies in its part, in bytes
    "size": "q",  # of its JSON, in bytes
    "length": "q",  # with its images
    "kind": "b",  # index into KINDS
    "modality": "b",  # index into MODALITIES
    "fixed": "h",  # index into `splits`: the split that the record itself names; -1 for none
    "chosen": "i",  # characters of the better answer of its first comparison that is no tie; -1 for none
    "rejected": "i",
    "compared": "i",  # index into `labels`: what that comparison is, and on which objective; -1 for none
}
_OF_MANY = {"key_owner": "q", "key_content": "b", "judgement_owner": "q", "judgement_label": "i"}
_HASHES = ("id", "content", "flip", "key")


class IndexBuilder:
    """Collects the index of a part, record by record."""

    def __init__(self) -> None:
        self._numbers = {name: array(code) for name, code in {**_NUMBERS, **_OF_MANY}.items()}
        self._hashes = {name: bytearray() for name in _HASHES}
        self._judgements = array("Q")
        self._splits: dict[str, int] = {}
        self._labels: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._numbers["row"])

    def add(
        self, record: PreferenceRecord, row: int = 0, offset: int = 0, size: int = 0, length: int = 0
    ) -> None:
        """The next record; where it comes from, and where it lies in its part."""
        named, flip = record.provenance.get("split"), record.provenance.get("flip")
        chosen, rejected, objective = _compared(record)
        values = (
            *(row, offset, size, length, KINDS.index(kind_of(record)), MODALITIES.index(record.modality)),
            self._splits.setdefault(named, len(self._splits)) if isinstance(named, str) else -1,
            *(chosen, rejected, -1 if objective is None else self._label("pair", objective)),
        )
        owner = len(self)
        for key, content in split_keys(record):
            self._numbers["key_owner"].append(owner)
            self._numbers["key_content"].append(content)
            self._hashes["key"] += key
        for name, label, value in judgements(record):
            self._numbers["judgement_owner"].append(owner)
            self._numbers["judgement_label"].append(self._label(_type_of(name, label), label.objective))
            self._judgements.append(value)
        self._hashes["id"] += hash16(record.id)
        self._hashes["content"] += bytes.fromhex(content_hash(record)[:32])
        self._hashes["flip"] += hash16(f"{record.source}/{flip}") if isinstance(flip, str) else bytes(16)
        for name, number in zip(_NUMBERS, values, strict=True):
            self._numbers[name].append(number)

    def _label(self, kind: str, objective: str) -> int:
        return self._labels.setdefault((kind, objective), len(self._labels))

    def save(self, path: Path) -> None:
        """Writes the columns as .npz, and what their numbers name."""
        tables = np.frombuffer(json.dumps(self._tables()).encode(), np.uint8)
        save_columns(path, {**self._columns(), "tables": tables})

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {name: np.array(values) for name, values in self._numbers.items()}
        columns |= {name: as_hashes(values) for name, values in self._hashes.items()}
        return {**columns, "judgement": np.array(self._judgements)}

    def _tables(self) -> dict[str, Any]:
        return {"splits": list(self._splits), "labels": list(self._labels)}

    def index(self) -> Index:
        """The index of this part alone, as of source 0."""
        return Index.join([(0, self._columns(), self._tables())])


def _type_of(name: str, label: object) -> str:
    """The label's type, of `LABEL_TYPES`, or `vote`."""
    if isinstance(label, Rating):
        return "binary" if label.kind == "binary" else "rating"
    return TYPE_OF.get(name, "vote")


def _compared(record: PreferenceRecord) -> tuple[int, int, str | None]:
    """Characters of the better and the worse answer of the first comparison that is no tie, and its objective."""
    for comparison in record.comparisons:
        if not comparison.tie:
            better, worse = (record.responses[side] for side in (comparison.better, comparison.worse))
            return len(better.text), len(worse.text), comparison.objective
    return -1, -1, None


@dataclass
class Index:
    """N records of all parts.

    `columns` are arrays: those of `_NUMBERS` with a value a record; the hashes `id`, `content` and `flip` (0 for none)
    as uint64 (N, 2); `source` and `part`, by number; `key_owner`, `key` and `key_content` (see `splits.Keys`); and of
    each judgement `judgement_owner`, `judgement` (see `dedup.judgements`) and `judgement_label`, an index into
    `labels`, which are types (of `LABEL_TYPES`, or `vote`) and objectives. `fixed` is an index into `splits`.
    """

    columns: dict[str, np.ndarray]
    splits: list[str]
    labels: list[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.columns["row"])

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    @staticmethod
    def load(parts: Sequence[tuple[int, Path]]) -> Index:
        """The index of parts: the number of each one's source, and the file that `IndexBuilder.save` wrote."""
        found = []
        for source, path in parts:
            columns = load_columns(path)
            found.append((source, columns, json.loads(columns.pop("tables").tobytes())))
        return Index.join(found)

    @staticmethod
    def join(parts: Sequence[tuple[int, dict[str, np.ndarray], dict[str, Any]]]) -> Index:
        """The indices of parts, one behind the other: the number of each one's source, its columns and tables."""
        splits: dict[str, int] = {}
        labels: dict[tuple[str, str], int] = {}
        joined: dict[str, list[np.ndarray]] = {}
        first = 0
        for part, (source, columns, tables) in enumerate(parts):
            count = len(columns["row"])
            # -1, for none, is the last
            named = np.array([*(splits.setdefault(name, len(splits)) for name in tables["splits"]), -1])
            known = [(kind, objective) for kind, objective in tables["labels"]]
            of_part = np.array([labels.setdefault(label, len(labels)) for label in known], dtype=np.int32)
            changed = {
                "source": np.full(count, source, dtype=np.int16),
                "part": np.full(count, part, dtype=np.int32),
                "fixed": named[columns["fixed"]].astype(np.int16),
                "key_owner": columns["key_owner"] + first,
                "judgement_owner": columns["judgement_owner"] + first,
                "judgement_label": of_part[columns["judgement_label"]],
                "compared": np.append(of_part, np.int32(-1))[columns["compared"]],
            }
            for name, values in {**columns, **changed}.items():
                joined.setdefault(name, []).append(values)
            first += count
        return Index(
            {name: np.concatenate(joined.pop(name)) for name in list(joined)}, list(splits), list(labels)
        )

    def keys(self) -> Keys:
        """What records must not share across splits."""
        return Keys(self["key_owner"], self["key"], self["key_content"].astype(bool))

    def only(self, keep_N: np.ndarray) -> Index:
        """The records of a mask, in their order."""
        place = np.cumsum(keep_N) - 1
        out = {}
        for name, values in self.columns.items():
            many = "key" if name.startswith("key") else "judgement" if name.startswith("judgement") else ""
            kept = values[keep_N[self[f"{many}_owner"]] if many else keep_N]
            out[name] = place[kept] if name.endswith("_owner") else kept
        return Index(out, self.splits, self.labels)

    def saying_more(self, copies: Mapping[int, Sequence[int]]) -> Index:
        """The records with the judgements of copies: by record those that are merged into it, in this order (see
        `dedup.merge`).
        """
        judged = self.judged()
        more: list[tuple[int, int, int]] = []
        first = {name: self[name].copy() for name in ("chosen", "rejected", "compared")}
        for kept, group in copies.items():
            known = set(judged[kept])
            for copy in group:
                for value, label in zip(judged[copy], judged.labels(copy), strict=True):
                    if value not in known:
                        known.add(value)
                        more.append((kept, value, label))
                if first["compared"][kept] < 0:  # copies have the same answers, so their lengths are its own
                    for name, numbers in first.items():
                        numbers[kept] = self[name][copy]
        owners, hashes, labels = (
            (list(column) for column in zip(*more, strict=True)) if more else ([], [], [])
        )
        added = {"judgement_owner": owners, "judgement": hashes, "judgement_label": labels}
        joined = {
            name: np.concatenate([self[name], np.array(values, dtype=self[name].dtype)])
            for name, values in added.items()
        }
        order = np.argsort(joined["judgement_owner"], kind="stable")
        ordered = {name: values[order] for name, values in joined.items()}
        return Index({**self.columns, **first, **ordered}, self.splits, self.labels)

    def judged(self) -> Judged:
        """What the records' judgements are."""
        starts = np.searchsorted(self["judgement_owner"], np.arange(len(self) + 1))
        return Judged(self["judgement"], self["judgement_label"], starts)


@dataclass(frozen=True)
class Judged:
    """The judgements by record: `judged[i]` are the hashes of record i's."""

    hashes: np.ndarray
    label: np.ndarray
    starts: np.ndarray

    def __getitem__(self, index: int) -> list[int]:
        return self.hashes[self.starts[index] : self.starts[index + 1]].tolist()

    def labels(self, index: int) -> list[int]:
        """The labels of record i's judgements, beside its hashes."""
        return self.label[self.starts[index] : self.starts[index + 1]].tolist()
