"""Records that show another record's images: what a reward is worth that doesn't change, didn't come from
looking."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from data_tools.schema import PreferenceRecord

TRIES = 20


def swap_images(records: Sequence[PreferenceRecord], seed: int) -> list[PreferenceRecord | None]:
    """Each record with the images (and scenes) of another one that shows as many, none of them the same
    picture.

    None for a record without images, or where no other record fits.
    """
    rng = random.Random(seed)
    pools: dict[int, list[PreferenceRecord]] = {}
    for record in records:
        pools.setdefault(len(record.images), []).append(record)
    swapped: list[PreferenceRecord | None] = []
    for record in records:
        other = _another(rng, record, pools[len(record.images)]) if record.images else None
        swapped.append(other and dataclasses.replace(record, images=other.images, scenes=other.scenes))
    return swapped


def _another(
    rng: random.Random, record: PreferenceRecord, pool: list[PreferenceRecord]
) -> PreferenceRecord | None:
    own = _pictures(record)
    # most draws fit; only a data set of a few pictures needs the whole search
    for _ in range(TRIES):
        other = rng.choice(pool)
        if not own & _pictures(other):
            return other
    rest = [other for other in pool if not own & _pictures(other)]
    return rng.choice(rest) if rest else None


def _pictures(record: PreferenceRecord) -> set[str]:
    return {image.sha256 or image.path or "" for image in record.images}
