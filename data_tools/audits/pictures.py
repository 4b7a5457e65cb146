"""Each picture of a data set once: its hashes, and where it is first seen. Audits that compare pictures share it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from data_tools.audits.base import Data
from data_tools.audits.near_images import SKETCH, column_hash, near_clusters, perceptual_hash, sketch
from data_tools.images import decode_image, read_bytes
from data_tools.schema import PreferenceRecord

if TYPE_CHECKING:
    import numpy as np


class Pictures:
    """Pictures by number, in the order in which they are first seen; some 450 bytes each."""

    def __init__(self, read: Callable[[str, int], PreferenceRecord]) -> None:
        """`read` gives a record with its images, by its split and its index there."""
        self._read = read
        self._number: dict[int, int] = {}  # by the first 8 bytes of the hash of the encoded bytes
        self._hashes, self._columns = array("Q"), array("Q")
        self._flat, self._sketches = bytearray(), bytearray()
        self._splits = list[str]()
        self._seen = (array("B"), array("q"))  # where each is first seen: the split, and the index there

    def __len__(self) -> int:
        return len(self._hashes)

    def of(self, split: str, index: int, row: dict[str, Any]) -> list[int]:
        """The numbers of a record's pictures; reads and hashes those that weren't seen before.

        Raises:
            UserError: a picture is damaged.
        """
        names = [int(image["sha256"][:16], 16) for image in row["images"]]
        if any(name not in self._number for name in names):
            record = self._read(split, index)
            for name, image in zip(names, record.images, strict=True):
                if name not in self._number:
                    self._number[name] = len(self)
                    if split not in self._splits:
                        self._splits.append(split)
                    self._seen[0].append(self._splits.index(split))
                    self._seen[1].append(index)
                    self.add(read_bytes(image))
        return [self._number[name] for name in names]

    def place(self, picture: int) -> tuple[str, int]:
        """Where a picture is first seen: the split, and the index of the record there."""
        return self._splits[self._seen[0][picture]], self._seen[1][picture]

    def add(self, encoded: bytes) -> None:
        """Hashes a picture, whatever it is part of."""
        image = decode_image(encoded)
        near = perceptual_hash(image)
        self._flat.append(near is None)
        self._hashes.append(near or 0)
        self._sketches += sketch(image)
        self._columns.append(int.from_bytes(column_hash(image)[:8], "big"))

    def near(self) -> np.ndarray:
        """A number for each picture, the same for those that look nearly the same; one of a single colour is like
        none."""
        import numpy as np

        out = np.arange(len(self), dtype=np.int64) + len(self)
        shown = np.flatnonzero(np.frombuffer(self._flat, np.uint8) == 0)
        if len(shown):
            sketches = self._sketched()
            if len(shown) < len(self):
                sketches = sketches[shown]
            out[shown] = near_clusters(np.frombuffer(self._hashes, np.uint64)[shown], sketches=sketches)
        return out

    def _sketched(self) -> np.ndarray:
        import numpy as np

        return np.frombuffer(self._sketches, np.uint8).reshape(-1, SKETCH)

    def columns(self) -> np.ndarray:
        """A number for each picture, the same for those that are made of the same pixel columns."""
        import numpy as np

        return np.unique(np.frombuffer(self._columns, np.uint64), return_inverse=True)[1]

    def shared_with(self, other: Pictures, names: set[int]) -> np.ndarray:
        """The numbers of those that look like one of `other`, or whose bytes have a name (as in `of`) among `names`."""
        import numpy as np

        mine, theirs = (np.frombuffer(each._hashes, np.uint64) for each in (self, other))
        flat = np.frombuffer(self._flat + other._flat, np.uint8) > 0
        sketches = np.concatenate([self._sketched(), other._sketched()])
        look = near_clusters(np.concatenate([mine, theirs]), sketches=sketches)
        found = np.isin(look, look[len(mine) :][~flat[len(mine) :]]) & ~flat
        found = found[: len(mine)]
        found[[number for name, number in self._number.items() if name in names]] = True
        return np.flatnonzero(found)


def pictures_of(data: Data) -> Pictures:
    """The one collection of a data directory's pictures, which all audits of it share."""
    found: Pictures = data.shared.setdefault(
        "pictures", Pictures(lambda split, index: data.records(split)[index])
    )
    return found
