"""What a reader without eyes can go by: the words of the two answers, alone and with those of the prompt, hashed.

A pair's features are those of its first answer minus those of its second, so swapping the answers turns every sign.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from data_tools.audits.pairs import Pair
from data_tools.intervals import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

COLUMNS = 2**17  # of each of the three hashed parts
SHORT = 4  # words: "Yes.", "No.", "Two cats.": such an answer means nothing without its prompt
READ = 200
RARE = 5
_WORD = re.compile(r"\w+|[^\w\s]")


def differences(pairs: Sequence[Pair]) -> csr_array:
    """The features of each pair's first answer minus its second, as a sparse matrix of `3 * COLUMNS + 2` columns: words
    and pairs of words; runs of 3 and 4 letters within words; words of the prompt and pairs of them, each with the whole
    of a short answer; and the logarithms of characters and words. Of each text the first `READ` words count.
    """
    import numpy as np
    from scipy.sparse import csr_array, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    sides = [[(pair.prompt, pair.answers[side]) for pair in pairs] for side in (0, 1)]
    blocks = []
    for read in (_words, _letters, _crosses):
        # counts would let long answers speak loudest; the length has columns of its own
        hashed = HashingVectorizer(analyzer=_of(read), n_features=COLUMNS, norm="l2", dtype=np.float32)
        first, second = (hashed.transform(side) for side in sides)
        blocks.append(first - second)
    lengths = np.array([[_lengths(text) for _, text in side] for side in sides], dtype=np.float32)
    return csr_array(hstack([*blocks, csr_array((lengths[0] - lengths[1]) / 2)], format="csr"))


def _of(read: Callable[[str, str], Iterator[str]]) -> Callable[[tuple[str, str]], Iterator[str]]:
    return lambda item: read(*item)


def words(text: str) -> list[str]:
    """Its first `READ` words and signs, in lower case."""
    return [match.group() for match in islice(_WORD.finditer(text.lower()), READ)]


def _words(prompt: str, answer: str) -> Iterator[str]:
    found = ["^", *words(answer), "$"]
    yield from found
    yield from (f"{one} {other}" for one, other in pairwise(found))


def _letters(prompt: str, answer: str) -> Iterator[str]:
    for word in words(answer):
        edged = f" {word} "
        for size in (3, 4):
            yield from (edged[at : at + size] for at in range(len(edged) - size + 1))


def _crosses(prompt: str, answer: str) -> Iterator[str]:
    found = words(answer)
    if len(found) <= SHORT:
        said = " ".join(found)
        yield said
        asked = words(prompt)
        yield from (f"{word}|{said}" for word in dict.fromkeys(asked))
        yield from (f"{one} {other}|{said}" for one, other in dict.fromkeys(pairwise(asked)))


def _lengths(text: str) -> tuple[float, float]:
    return math.log1p(len(text)), math.log1p(len(text.split()))


def telling(pairs: Sequence[Pair], weights: Floats, most: int = 6) -> tuple[list[str], list[str]]:
    """The words, and prompt words with short answers, that speak most for an answer and most against it, by weight and
    by the square root of the number of answers that hold them. Those of fewer than `RARE` answers are left out.

    `weights` are those of `differences`' columns. A hash may stand for several words; the most frequent is named.
    """
    import numpy as np
    from sklearn.feature_extraction.text import HashingVectorizer

    one = HashingVectorizer(analyzer=lambda token: [token], n_features=COLUMNS, norm=None)
    scores: dict[str, float] = {}
    for block, read in ((0, _words), (2, _crosses)):
        uses = Counter(
            token for pair in pairs for answer in pair.answers for token in set(read(pair.prompt, answer))
        )
        known = [
            (token, number)
            for token, number in uses.most_common()
            if number >= RARE and re.search(r"\w", token.partition("|")[0])
        ]
        if known:
            of_block = weights[block * COLUMNS : (block + 1) * COLUMNS]
            found = one.transform([token for token, _ in known]) @ of_block
            for (token, number), weight in zip(known, found, strict=True):
                scores[token] = max(scores.get(token, 0.0), float(weight) * np.sqrt(number), key=abs)
    ranked = sorted(scores, key=lambda token: (scores[token], token))
    return (
        [token for token in reversed(ranked[-most:]) if scores[token] > 0],
        [token for token in ranked[:most] if scores[token] < 0],
    )
