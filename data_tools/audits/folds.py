"""Which pairs hang together, and folds for cross-validation that keep them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_tools.audits.pairs import Pair
from data_tools.graph import sharing
from data_tools.hashes import hash64
from data_tools.intervals import Ints

FOLDS = 5
EVERYWHERE = 0.02  # a prompt of a larger share of the records is a phrase, not a question of its own


def groups_of(pairs: Sequence[Pair]) -> Ints:
    """A number for each pair, the same for all that hang together, over any number of links: the smallest of their
    hashes, so that a group has the same one whatever else the data hold.

    A prompt that is everywhere ("Describe the picture.") links nothing, or all would be one group: then an image, a
    flip pair or a group that the source declares do, and the same answers to it unless these are everywhere as well.
    """
    if not pairs:
        return np.zeros(0, dtype=np.int64)
    phrases = _phrases(pairs)
    index, links = [], []
    for i, pair in enumerate(pairs):
        held = [*pair.links, *(question for question in pair.questions if question not in phrases)]
        links += held
        index += [i] * len(held)
    names, columns = np.unique(np.array(links, dtype=np.int64), return_inverse=True)
    of_pair, of_name = sharing(len(pairs), np.array(index, dtype=np.int64), columns)
    smallest = np.full(int(of_pair.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, of_name, names)
    return smallest[of_pair]


def _phrases(pairs: Sequence[Pair]) -> set[int]:
    """The questions that are everywhere: in more than ten records, and in more than the share of those of a source."""
    records = {(pair.source, pair.split, pair.place): pair.questions for pair in pairs}
    sizes = Counter(source for source, _, _ in records)
    uses = Counter((source, question) for (source, _, _), asked in records.items() for question in asked)
    return {
        question
        for (source, question), number in uses.items()
        if number > max(10, EVERYWHERE * sizes[source])
    }


def folds_of(groups: Ints, seed: int, count: int = FOLDS) -> Ints:
    """A fold for each pair, whole groups together: the largest groups first, each into the smallest fold; those of one
    size in an order drawn by the seed. With fewer groups than `count` there are as many folds as groups."""
    names, sizes = np.unique(groups, return_counts=True)
    count = min(count, len(names))
    fold = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(max(count, 1), dtype=np.int64)
    for at in sorted(range(len(names)), key=lambda i: (-sizes[i], hash64("fold", seed, names[i]))):
        fold[at] = filled.argmin()
        filled[fold[at]] += sizes[at]
    return fold[np.searchsorted(names, groups)]
