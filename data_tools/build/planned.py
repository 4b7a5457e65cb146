"""The records of a plan, read out of the parts: with the judgements of their copies, and the flip pairs that remedies
made of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.dedup import merge
from data_tools.parts.part import PartReader
from data_tools.schema import PreferenceRecord, to_json

PLACES, MERGES, FLIPS = "places.npy", "merges.npy", "flips.npy"
# where a record lies; of a copy also the number of the record that it is merged into
PLACE = np.dtype([("part", "i4"), ("offset", "i8"), ("size", "i8"), ("length", "i8")])
MERGE = np.dtype([("into", "i8"), *PLACE.descr])
FLIP = np.dtype([("of", "i8"), ("name", "S32")])  # the number of a record, and the flip pair that it is of


class Planned:
    """Records of a split, the numbers `start` to `stop` of those that a folder names: it holds arrays of PLACE by
    number, and of MERGE and FLIP in the order of the numbers.
    """

    def __init__(self, parts: Sequence[Path], split: str, folder: Path, start: int, stop: int) -> None:
        place_N, merge_M, flip_M = (np.load(folder / name, mmap_mode="r") for name in (PLACES, MERGES, FLIPS))
        self._reader, self._split = PartReader(list(parts)), split
        self._places = place_N[start:stop]
        self._copies: dict[int, list[tuple[int, int, int, int]]] = {}
        among = slice(*np.searchsorted(merge_M["into"], [start, stop]).tolist())
        for into, *place in merge_M[among].tolist():
            self._copies.setdefault(into - start, []).append(tuple(place))
        among = slice(*np.searchsorted(flip_M["of"], [start, stop]).tolist())
        self._flips = {of - start: name.decode() for of, name in flip_M[among].tolist()}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> PreferenceRecord:
        """A record, its images as bytes or as files that are read only later.

        Raises:
            UserError: a part is damaged.
        """
        record = self._reader.read(*self._places[index].tolist(), split=self._split)
        for copy in self._copies.get(index, ()):
            record = merge(record, self._reader.read(*copy))
        if index in self._flips:
            record = replace(record, provenance={**record.provenance, "flip": self._flips[index]})
        return record

    def meta(self, index: int) -> dict[str, Any]:
        """The record as JSON values (see `schema.to_json`), without its images."""
        if index in self._copies:
            return to_json(self[index])
        part, offset, size, _ = self._places[index].tolist()
        row: dict[str, Any] = json.loads(self._reader.body(part, offset, size))
        row["split"] = self._split
        if index in self._flips:
            row["provenance"]["flip"] = self._flips[index]
        return row

    def close(self) -> None:
        """Closes the parts."""
        self._reader.close()
