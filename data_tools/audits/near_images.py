"""Pictures that are nearly the same: re-encoded, resized or retouched copies, and rearrangements of the same columns.

The perceptual hash is the well-known pHash (C. Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010): the signs of the 8 x 8 lowest frequencies of the 32 x 32 grey picture against their median. Two
pictures are near where at most `distance` of its 64 bits differ. Left out on purpose: crops, which it doesn't find.
"""

from __future__ import annotations

import hashlib
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


def near_clusters(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """A number for each hash (uint64), the same for all that are joined by steps of at most `distance` bits.

    Exact up to the cut of crowds in `collide.candidates`: of any `distance` + 2 bands of the bits at least two are
    untouched by `distance` changes, so near hashes are found among those that agree in some two bands.
    """
    import numpy as np

    unique, back = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)

    def alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.bitwise_count(unique[left] ^ unique[right]) <= distance

    edges = np.linspace(0, 64, distance + 3).astype(int)
    masks = [((1 << int(high)) - 1) ^ ((1 << int(low)) - 1) for low, high in pairwise(edges)]
    pairs = (
        block
        for first, second in combinations(masks, 2)
        for block in candidates(unique & np.uint64(first | second))
    )
    return clusters(len(unique), pairs, alike)[back]
