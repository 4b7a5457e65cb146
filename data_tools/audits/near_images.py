"""Pictures that are nearly the same: re-encoded, resized or retouched copies, and rearrangements of the same columns.

The perceptual hash is the well-known pHash (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010): the signs of the 8 x 8 lowest frequencies of the 32 x 32 grey picture against their median. Two
pictures are near where at most `distance` of its 64 bits differ, and their sketches agree too: for drawn pictures the
hash alone is too coarse (of NLVR's 989 pictures it calls 366 near, which show other blocks on the same grey; with
sketches it is two, which are equal). Left out on purpose: crops, and what differs in a part of the picture only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from data_tools.audits.collide import candidates, clusters

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

DISTANCE = 4  # bits; re-encoding and resizing change fewer
FLAT = 2.0  # a grey picture whose standard deviation is below this (of 255) has no hash: it is noise
_SIDE, _LOW = 32, 8
SKETCH = 16 * 16 + 2 * 8 * 8  # bytes: brightness, and two of color at half the resolution
# what one place of a sketch may differ by (of 255): of NLVR at half the size it is up to 17, of others' from 23
TOLERANCE = 20
_CHUNK = 1 << 16  # pairs of sketches that are compared at once


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """The first rows of the type II discrete cosine transform of 32 values."""
    import numpy as np

    places = np.arange(_SIDE)
    return np.cos(np.pi * np.arange(_LOW)[:, None] * (2 * places + 1) / (2 * _SIDE))


def perceptual_hash(image: Image.Image) -> int | None:
    """The 64 bits of a picture's pHash, the lowest frequency in the highest bit; None of a picture that shows nothing
    but one colour.
    """
    import numpy as np
    from PIL import Image as Pillow

    small = image.convert("L").resize((_SIDE, _SIDE), Pillow.Resampling.LANCZOS)
    grey = np.frombuffer(small.tobytes(), np.uint8).reshape(_SIDE, _SIDE).astype(np.float64)
    total, squares = float(grey.sum()), float(np.vdot(grey, grey))
    if (
        squares * grey.size - total**2 < (FLAT * grey.size) ** 2
    ):  # whole numbers, so exact; numpy's own takes longer
        return None
    low = _cosines() @ grey @ _cosines().T
    ranked = np.sort(low, axis=None)
    median = (ranked[ranked.size // 2 - 1] + ranked[ranked.size // 2]) / 2
    return int.from_bytes(np.packbits(low > median).tobytes(), "big")


def column_hash(image: Image.Image) -> bytes:
    """16 bytes that are equal for pictures made of the same pixel columns in whatever order, such as the orders of the
    boxes in a row that NLVR shows each of its pictures in, or a mirror image.
    """
    import numpy as np

    flat = image if image.mode == "RGB" else image.convert("RGB")
    width, height = flat.size
    pixels = np.frombuffer(flat.tobytes("raw", "RGBX"), ">u4").reshape(
        height, width
    )  # X is a byte that says nothing
    packed = (pixels >> 8).astype(np.uint64)
    packed *= _row_weights(height)[:, None]
    columns = np.sort(packed.sum(axis=0))
    return hashlib.blake2b(f"{width}x{height} ".encode() + columns.tobytes(), digest_size=16).digest()


@lru_cache(maxsize=64)
def _row_weights(height: int) -> np.ndarray:
    """An odd number for each row, fixed for ever."""
    import numpy as np

    return np.random.default_rng(0).integers(1, 2**63, height, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def sketch(image: Image.Image) -> bytes:
    """A picture of a few places: 16 x 16 of brightness, 8 x 8 of each of two colors, each less its mean, so that a
    brighter copy has the same one.
    """
    import numpy as np
    from PIL import Image as Pillow

    found = []
    for side, channel in zip((16, 8, 8), image.convert("YCbCr").split(), strict=True):
        small = np.asarray(channel.resize((side, side), Pillow.Resampling.BOX), np.float64)
        found.append(np.clip(np.rint(small - small.mean() + 128), 0, 255).astype(np.uint8).tobytes())
    return b"".join(found)


def near_clusters(
    hashes: np.ndarray, distance: int = DISTANCE, sketches: np.ndarray | None = None
) -> np.ndarray:
    """A number for each of N hashes (uint64), the same for all that are joined by steps of at most `distance` bits and,
    where `sketches` are given (uint8, N x `SKETCH`), of sketches that differ by at most `TOLERANCE`.

    Exact up to the cut of crowds in `collide.candidates`: of any `distance` + 2 bands of the bits at least two are
    untouched by `distance` changes, so near hashes are found among those that agree in some two bands.
    """
    import numpy as np

    hashes = np.asarray(hashes, np.uint64)
    if sketches is None:
        unique, back = np.unique(hashes, return_inverse=True)
    else:
        unique, back = hashes, np.arange(len(hashes))

    def alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = np.bitwise_count(unique[left] ^ unique[right]) <= distance
        if sketches is not None:
            close = np.flatnonzero(found)
            for start in range(0, len(close), _CHUNK):
                now = close[start : start + _CHUNK]
                one, other = sketches[left[now]], sketches[right[now]]
                apart = np.maximum(one, other) - np.minimum(one, other)
                found[now] = apart.max(axis=1, initial=0) <= TOLERANCE
        return found

    edges = np.linspace(0, 64, distance + 3).astype(int)
    masks = [((1 << int(high)) - 1) ^ ((1 << int(low)) - 1) for low, high in pairwise(edges)]

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from candidates(unique)  # of equal hashes, which all bands would give again
        for first, second in combinations(masks, 2):
            for left, right in candidates(unique & np.uint64(first | second)):
                differ = unique[left] != unique[right]
                yield left[differ], right[differ]

    return clusters(len(unique), pairs(), alike)[back]
