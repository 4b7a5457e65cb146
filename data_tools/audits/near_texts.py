"""Texts that are nearly the same, by MinHash (A. Broder, On the resemblance and containment of documents, 1997).

A text is the set of its runs of three words, in lower case and without punctuation; two texts are near where their sets
overlap (Jaccard) by at least `threshold`, as `PERMUTATIONS` minima estimate it. Candidates come from bands of minima
(locality-sensitive hashing). Written over arrays, since the known libraries keep an object a text in memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from data_tools.audits.collide import candidates, clusters
from data_tools.hashes import mix

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 64  # the estimate of an overlap of 0.8 has a standard error of 0.05
BANDS = 16  # of four minima: an overlap of 0.8 is missed once in 5,000 times
THRESHOLD = 0.8
RUN = 3  # words
_WORD = re.compile(r"\w+")
_MULTIPLIER = 0x9E3779B97F4A7C15


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; what is no letter, digit or underscore only separates them."""
    return _WORD.findall(text.lower())


def run_hashes(words: list[str], run: int = RUN) -> np.ndarray:
    """A 64-bit number for each run of so many words, or one for all words where there are fewer; uint64."""
    return _all_runs([words], run)[0]


def _all_runs(texts: Sequence[list[str]], run: int = RUN) -> tuple[np.ndarray, np.ndarray]:
    """The runs of some texts, one text behind the other, and where those of each that has words begin."""
    import numpy as np

    texts = [words for words in texts if words]
    if not texts:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    each = np.array([zlib.crc32(word.encode()) for words in texts for word in words], np.uint64)
    sizes = np.array([len(words) for words in texts])
    runs = np.maximum(sizes - run + 1, 1)  # of each text
    starts = np.cumsum(runs) - runs
    first = np.arange(runs.sum()) + np.repeat(np.cumsum(sizes) - sizes - starts, runs)  # word of each run
    length = np.repeat(np.minimum(sizes, run), runs)
    total = np.zeros(len(first), np.uint64)
    for offset in range(int(length.max())):
        word = each[np.minimum(first + offset, len(each) - 1)]
        longer = total * np.uint64(_MULTIPLIER) + word + np.uint64(1)
        total = np.where(offset < length, longer, total) if offset >= sizes.min() else longer
    return mix(total), starts


def signatures(texts: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Which of some texts have words, and of each of these the minima of its runs under each of the PERMUTATIONS, as
    uint32; many short texts take half the time at once that they take one by one.
    """
    import numpy as np

    words = [words_of(text) for text in texts]
    hashes, starts = _all_runs(words)
    found = [number for number, of_text in enumerate(words) if of_text]
    if not found:
        return found, np.empty((0, PERMUTATIONS), np.uint32)
    factors, shifts = _permutations()
    # multiply and add modulo 2^64 of numbers that are mixed already; the upper half is the best mixed
    drawn = hashes[:, None] * factors
    drawn += shifts
    return found, (np.minimum.reduceat(drawn, starts, axis=0) >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=1)
def _permutations() -> tuple[np.ndarray, np.ndarray]:
    """An odd factor and a shift for each permutation, fixed for ever."""
    import numpy as np

    numbers = mix(np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(_MULTIPLIER))
    return numbers[:PERMUTATIONS] | np.uint64(1), numbers[PERMUTATIONS:]


def near_clusters(signatures: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """A number for each signature (a row of `signatures`), the same for all that are joined by steps of at least
    `threshold` overlap.
    """
    import numpy as np

    if not len(signatures):
        return np.empty(0, np.int64)
    # equal signatures are one; by a hash of them, since sorting the rows themselves takes twice their memory
    _, firsts, back = np.unique(_keys(signatures), return_index=True, return_inverse=True)
    unique = signatures[firsts]

    def alike(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return (unique[left] == unique[right]).mean(axis=1) >= threshold

    rows = PERMUTATIONS // BANDS
    pairs = (
        block
        for band in range(BANDS)
        for block in candidates(_keys(unique[:, band * rows : (band + 1) * rows]))
    )
    return clusters(len(unique), pairs, alike)[back]


def _keys(minima: np.ndarray) -> np.ndarray:
    """One 64-bit number for each row of minima."""
    import numpy as np

    keys = np.zeros(len(minima), np.uint64)
    for column in minima.T:
        keys = mix(keys * np.uint64(_MULTIPLIER) + column)
    return keys
