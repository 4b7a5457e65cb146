"""What a remedy sees of the records, and how it leaves some of them out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.config import Config
from data_tools.hashes import as_hashes, hash16
from data_tools.parts.index import Index
from data_tools.parts.part import PartReader
from data_tools.schema import PreferenceRecord


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
    `source` one of the sources' names, `flips` one (S32) of the names of the flip pairs that `pair` made.
    """

    def __init__(self, index: Index, split_N: np.ndarray, sources: list[str], parts: list[Path]) -> None:
        self._all, self._split, self._sources, self._parts = index, split_N, sources, parts
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
        return np.array(self._sources, dtype=object)[self["source"]]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each record as JSON values (see `schema.to_json`), read one after the other; without its images, and without
        the judgements that copies of it will add.
        """
        reader = PartReader(self._parts)
        try:
            places = zip(*(self[name].tolist() for name in ("part", "offset", "size")), strict=True)
            for place, flip in zip(places, self.flips.tolist(), strict=True):
                row = json.loads(reader.body(*place))
                if flip:
                    row["provenance"]["flip"] = flip.decode()
                yield row
        finally:
            reader.close()

    def record(self, index: int) -> PreferenceRecord:
        """A record with its images, each as bytes or as a file."""
        if self._reader is None:
            self._reader = PartReader(self._parts)
        record = self._reader.read(*(int(self[name][index]) for name in ("part", "offset", "size", "length")))
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
            hash16(f"{self._sources[source]}/{name}")
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
            self.dropped[f"{self._sources[number]}: {reason}"] += count
        self.live[np.flatnonzero(self.live)[mask_N]] = False
        self._index, self.flips = self._all.only(self.live), self._flips[self.live]
