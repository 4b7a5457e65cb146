"""Which of many things have equal keys: candidate pairs for near-duplicates, from sorted arrays, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from data_tools.graph import components

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

MOST = 200  # neighbours that each thing is compared with under one key; a crowd larger than that is cut


def candidates(keys: np.ndarray, most: int = MOST) -> Iterator[tuple[Ints, Ints]]:
    """Pairs (i, j) of things whose keys are equal, as blocks of two arrays, each pair once.

    `keys` is an array of any sortable type. Where more than `most` things have one key, each is paired with the next
    `most` of them only: enough to join them all into one cluster, if they are alike.
    """
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    same = np.arange(len(keys) - 1)[ranked[1:] == ranked[:-1]]  # places whose neighbour has the same key
    for step in range(1, most + 1):
        if not len(same):
            return
        yield order[same], order[same + step]
        same = same[same + step + 1 < len(keys)]
        same = same[ranked[same] == ranked[same + step + 1]]


def clusters(
    count: int, pairs: Iterator[tuple[Ints, Ints]], alike: Callable[[Ints, Ints], np.ndarray]
) -> Ints:
    """A number for each of `count` things, the same for those that are joined by pairs which are `alike`."""
    import numpy as np

    lefts, rights = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for left, right in pairs:
        found = alike(left, right)
        lefts.append(left[found])
        rights.append(right[found])
    return components(count, np.concatenate(lefts), np.concatenate(rights))
