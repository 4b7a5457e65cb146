"""The mixture as an index: which record comes when, as a pure function of the seed and the epoch.

There is no shuffle buffer and no state: a run that resumes at any step, with any number of workers, computes
the same order again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def epoch_order(strata: Sequence[tuple[str, str]], seed: int, epoch: int) -> list[int]:
    """A permutation of the records in which every window holds the strata in nearly their overall
    proportions.

    `strata` names the (source, modality) of each record. The members of a stratum are shuffled, the k-th of n
    is given the rank (k + u) / n with one random u in [0, 1) a stratum, and all are sorted by rank: any two
    windows of equal length differ by at most a few records a stratum.
    """
    members: dict[tuple[str, str], list[int]] = {}
    for index, stratum in enumerate(strata):
        members.setdefault((stratum[0], stratum[1]), []).append(index)
    ranked: list[tuple[float, str, int]] = []
    for stratum in sorted(members):
        name = "/".join(stratum)
        # a text seed is hashed by random itself with SHA-512, so it doesn't vary with the interpreter's hash
        # seed
        rng = random.Random(f"{seed}/{epoch}/{name}")
        indices = members[stratum]
        rng.shuffle(indices)
        shift = rng.random()
        ranked += [((k + shift) / len(indices), name, index) for k, index in enumerate(indices)]
    ranked.sort()
    return [index for _, _, index in ranked]
