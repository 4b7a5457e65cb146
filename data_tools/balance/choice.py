"""Which units of a cell stay: by a hash, so that the choice depends on the seed and the units' names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def unit_rank(seed: int, source: str, name: str) -> int:
    """The place of a unit among those of its cell, a number below 2^64; the lowest stay."""
    digest = hashlib.sha256(f"{seed}/{source}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def chosen(keep: int, ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    """The indices, ascending, of the `keep` units with the lowest ranks (all where there are no more).

    `ranks` are those of one cell's units, as an array of uint64 (8 bytes a unit) or a sequence. Of equal ranks, which
    64 bits make rare, the first stays.
    """
    import numpy as np

    order = np.argsort(np.asarray(ranks, dtype=np.uint64), kind="stable")
    return np.sort(order[:keep])
