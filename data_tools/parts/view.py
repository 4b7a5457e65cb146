"""What a remedy sees of the records, and how it leaves some of them out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.config import Config
from data_tools.dedup import merge
from data_tools.hashes import as_hashes, hash16
from data_tools.parts.index import Index
from data_tools.parts.part import PartReader
from data_tools.parts.units import luck, units
from data_tools.schema import PreferenceRecord, to_json

Place = tuple[int, int, int, int]  # of a record: its part, and its offset, size and length there
_PLACE = ("part", "offset", "size", "length")


class Remedy(Config):
    """Base of what leaves records out, between merging copies and balancing.

    A remedy of your own subclasses it, is named as `type: your_package.module:Class`, and overrides `apply`:

        class Short(Remedy):
            most: int = 100

            def apply(self, view: View, seed: int) -> None:
                view.drop(view["chosen"] > self.most, "answers over 100 characters")

    What it drops is counted by source and reason, and is part of the plan: it must depend on the records and the seed
    alone.
    """

    def files(self) -> Sequence[Path]:
        """The files that it goes by: a finished data set is kept only while these are the same."""
        return ()

    def apply(self, view: View, seed: int) -> None:
        """Drops what isn't to be in the data set."""
        raise NotImplementedError(f"{type(self).__name__} has no apply method")


class View:
    """The N records that are left so far, in their order.

    `view["chosen"]` is a column of the index (see `parts.index.Index`) for these records; `split` is an array of names,
    `source` one of the sources' names, `flips` one (S32) of the names of the flip pairs that `pair` made. `sources` and
    `splits` name all that there are, also where none of their records is left. `turn` is the place of the remedy that
    is at work among all of them.
    """

    def __init__(
        self,
        index: Index,
        split_N: np.ndarray,
        sources: list[str],
        parts: list[Path],
        copies: Mapping[int, Sequence[Place]] | None = None,
        splits: Sequence[str] = (),
    ) -> None:
        """`copies` are, by the place of a record in the index, the copies whose judgements go into it; `splits` those
        that there are beside those of the records.
        """
        self._all, self._split, self._parts = index, split_N, parts
        self.sources, self.splits = sources, sorted({*splits, *split_N.tolist()})
        self._copies = copies or {}
        self.turn = 0
        self.notes: list[str] = []
        self.live = np.ones(len(index), dtype=bool)
        # the names of the flip pairs that `pair` made, of all records and of those that are left; empty for none
        self._flips = np.zeros(len(index), dtype="S32")
        self.flips = self._flips
        self.dropped: Counter[str] = Counter()  # by "source: reason"
        self._index = index
        self._reader: PartReader | None = None

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, column: str) -> np.ndarray:
        return self._index[column]

    @property
    def index(self) -> Index:
        """All columns of the records that are left."""
        return self._index

    @property
    def split(self) -> np.ndarray:
        """The split of each record."""
        return self._split[self.live]

    @property
    def source(self) -> np.ndarray:
        """The name of each record's source."""
        return np.array(self.sources, dtype=object)[self["source"]]

    @property
    def units(self) -> np.ndarray:
        """The number of each record's unit: one record, or both of a flip pair in one split."""
        return units(self.index, self.split)

    def luck(self, seed: int, what: str) -> np.ndarray:
        """A number for each record that looks random, uint64, another one for each remedy (see `units.luck`)."""
        return luck(self.index, seed, f"{self.turn} {what}")

    def tell(self, note: str) -> None:
        """Puts a sentence into the build's report: what the remedy couldn't do, and of which records."""
        self.notes.append(note)

    def rows(self, among_N: np.ndarray | None = None) -> Iterator[dict[str, Any]]:
        """Each record as JSON values (see `schema.to_json`), with the judgements of its copies, without its images;
        only those of a mask where one is given. They are read one after the other.
        """
        reader = PartReader(self._parts)
        wanted = np.arange(len(self)) if among_N is None else np.flatnonzero(among_N)
        whole = np.flatnonzero(self.live)[wanted]
        try:
            places = zip(*(self[name][wanted].tolist() for name in _PLACE), strict=True)
            for place, number, flip in zip(places, whole.tolist(), self.flips[wanted].tolist(), strict=True):
                if number in self._copies:
                    row = to_json(self._merged(reader, place, number))
                else:
                    row = json.loads(reader.body(*place[:3]))
                if flip:
                    row["provenance"]["flip"] = flip.decode()
                yield row
        finally:
            reader.close()

    def _merged(self, reader: PartReader, place: Place, number: int) -> PreferenceRecord:
        record = reader.read(*place)
        for copy in self._copies.get(number, ()):
            record = merge(record, reader.read(*copy))
        return record

    def record(self, index: int) -> PreferenceRecord:
        """A record with its images, each as bytes or as a file, and the judgements of its copies."""
        if self._reader is None:
            self._reader = PartReader(self._parts)
        part, offset, size, length = (int(self[name][index]) for name in _PLACE)
        number = int(np.flatnonzero(self.live)[index]) if self._copies else index
        record = self._merged(self._reader, (part, offset, size, length), number)
        flip = self.flips[index].decode()
        return replace(record, provenance={**record.provenance, "flip": flip}) if flip else record

    def close(self) -> None:
        """Closes what `record` has opened."""
        if self._reader is not None:
            self._reader.close()

    def pair(self, first_M: np.ndarray, second_M: np.ndarray) -> None:
        """Makes flip pairs of records, two by two, given by their places in the view: the shards will say so.

        Raises:
            ValueError: a record is given twice or is in a pair already, or two are not of one source and split.
        """
        both = np.concatenate([first_M, second_M]).astype(np.int64)
        first_M, second_M = both[: len(first_M)], both[len(first_M) :]
        if len(np.unique(both)) < len(both) or self["flip"][both].any():
            raise ValueError("a record can be in one flip pair only")
        source_N, split_N = self["source"], self.split
        if not (
            np.array_equal(source_N[first_M], source_N[second_M])
            and np.array_equal(split_N[first_M], split_N[second_M])
        ):
            raise ValueError("the records of a flip pair must be of one source and split")
        ids = np.concatenate([self["id"][first_M], self["id"][second_M]], axis=1).astype(">u8")
        names = [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in ids]
        hashes = [
            hash16(f"{self.sources[source]}/{name}")
            for source, name in zip(source_N[first_M].tolist(), names, strict=True)
        ]
        flip_N2 = self._all["flip"].copy()
        at = np.flatnonzero(self.live)
        for members in (at[first_M], at[second_M]):
            self._flips[members] = names
            flip_N2[members] = as_hashes(b"".join(hashes))
        self._all = Index({**self._all.columns, "flip": flip_N2}, self._all.splits, self._all.labels)
        self._index, self.flips = self._all.only(self.live), self._flips[self.live]

    def drop(self, mask_N: np.ndarray, reason: str) -> None:
        """Leaves out the records of the mask, one entry a record of the view, which has fewer from then on.

        `reason` is what the report calls them; raises ValueError where the mask is of another length.
        """
        mask_N = np.asarray(mask_N, dtype=bool)
        if mask_N.shape != (len(self),):
            raise ValueError(f"a mask of shape {mask_N.shape} for {len(self)} records")
        names, times = np.unique(self["source"][mask_N], return_counts=True)
        for number, count in zip(names.tolist(), times.tolist(), strict=True):
            self.dropped[f"{self.sources[number]}: {reason}"] += count
        self.live[np.flatnonzero(self.live)[mask_N]] = False
        self._index, self.flips = self._all.only(self.live), self._flips[self.live]
