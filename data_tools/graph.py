"""What hangs together when pairs of things are linked, a million at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def components(count: int, left: Ints, right: Ints) -> Ints:
    """A number for each of `count` things, from 0, the same for all that are linked, directly or through others; link k
    joins things `left[k]` and `right[k]`. int64
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def sharing(count: int, owner: Ints, key: Ints) -> tuple[Ints, Ints]:
    """As `components`, of things that are linked where they share a key: `owner[k]` has the key `key[k]`, numbered from
    0. The numbers of the things, and those of the keys.
    """
    keys = int(key.max(initial=-1)) + 1
    found = components(count + keys, owner, count + key)
    return found[:count], found[count:]
