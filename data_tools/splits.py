"""Train and test by the hash of what a record must not share across them, so that nothing leaks.

Records hang together if they share an image (any of theirs, by the hash of its bytes, whatever source it comes
from), a text-only prompt's first question, or, within a source, a flip pair or a group that the source declares
(`provenance["group"]`). All that hangs together lies in one split, which is drawn from the smallest hash of an image or
question among it and cut by the shares of the first of its sources. So the split of a record depends on the records
it hangs together with and on nothing else: neither on the seed nor on the order of rows.

A split is fixed for the records of a source whose `splits` names no other, such as a data set's own test file, and
for a record with `provenance["split"]`: they stay there, and what hangs together with them goes there too. Where two
fixed splits meet, the input itself leaks: both are kept as they are given, other records follow the first of them,
and the records concerned are counted.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.graph import sharing
from data_tools.hashes import as_hashes, hash16, numbered
from data_tools.schema import PreferenceRecord

DEFAULT_SPLITS = {"train": 0.9, "test": 0.1}
_NAME = re.compile(r"[a-z0-9_]+")


def check_splits(splits: dict[str, float]) -> dict[str, float]:
    """The shares themselves; raises ValueError unless they are positive and sum to 1, under plain names."""
    for name, share in splits.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"the split name {name!r} must be made of a-z, 0-9 and _")
        if share <= 0:
            raise ValueError(f"the share of {name} must be above 0")
    total = sum(splits.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares sum to {total:g}, not to 1")
    return splits


def split_of(key: str, splits: Mapping[str, float]) -> str:
    """The split that a key falls in: its hash as a fraction, cut by the shares in their order."""
    draw = int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big") / 2**64
    edge = 0.0
    for name, share in splits.items():
        edge += share
        if draw < edge:
            return name
    return list(splits)[-1]  # the shares may sum to a little less than 1


@dataclass(frozen=True)
class Keys:
    """What N records must not share across splits, as M keys: whose each is, its hash, and whether it is of a record's
    content (an image, a question) or declared (a flip pair, a group). Each record has at least one of its content.
    """

    owner_M: np.ndarray  # of the record, from 0
    hash_M2: np.ndarray  # uint64
    content_M: np.ndarray  # bool

    @staticmethod
    def of(records: Iterable[PreferenceRecord]) -> tuple[Keys, int]:
        """The keys of records, which are looked at one by one and not held; and how many records there are."""
        owner, hashes, content, count = array("q"), bytearray(), bytearray(), 0
        for record in records:
            for key, said in split_keys(record):
                owner.append(count)
                hashes += key
                content.append(said)
            count += 1
        return Keys(np.array(owner, np.int64), as_hashes(hashes), np.array(content, bool)), count


@dataclass(frozen=True)
class Components:
    """What hangs together: the number of the component of each of N records, counted by their first records; and by
    component its smallest hash of content, as text.
    """

    number_N: np.ndarray
    smallest: list[str]


def split_keys(record: PreferenceRecord) -> list[tuple[bytes, bool]]:
    """A hash of 16 bytes for each thing that ties the record to others, and whether it is of its content."""
    if record.images:
        content = [f"image {image.sha256 or image.path}" for image in record.images]
    else:
        asked = (message.text for message in record.prompt if message.role == "user")
        content = ["question " + " ".join(next(asked, record.prompt[0].text).split())]
    declared = [
        f"{kind} {record.source}/{record.provenance[kind]}"  # the names mean nothing outside of the source
        for kind in ("flip", "group")
        if isinstance(record.provenance.get(kind), str)
    ]
    return [(hash16(key), True) for key in content] + [(hash16(key), False) for key in declared]


def connect(keys: Keys, count: int) -> Components:
    """What hangs together of `count` records, directly or through others."""
    if count == 0:
        return Components(np.empty(0, dtype=np.int64), [])
    label_N, _ = sharing(count, keys.owner_M, numbered(keys.hash_M2)[0])
    _, first, label_N = np.unique(label_N, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    number_N = place[label_N]

    of_M = number_N[keys.owner_M[keys.content_M]]
    hash_M2 = keys.hash_M2[keys.content_M]
    order = np.lexsort((hash_M2[:, 1], hash_M2[:, 0], of_M))
    heads = np.flatnonzero(np.diff(of_M[order], prepend=-1))
    return Components(number_N, [f"{high:016x}{low:016x}" for high, low in hash_M2[order[heads]].tolist()])


def draw_splits(
    found: Components,
    fixed: Sequence[str | None] | np.ndarray,
    shares: Sequence[Mapping[str, float]],
    of_N: np.ndarray,
) -> tuple[np.ndarray, dict[str, int]]:
    """The split of each of N records, as an array of names; and the leaks of the input: by the fixed splits that meet
    ("test+train"), how many records hang together across them.

    `fixed` is the split in which a record must stay, or None; `shares[of_N[i]]` are the shares of record i's source.
    """
    fixed_N = np.asarray(fixed, dtype=object)
    number_N = found.number_N
    drawn: list[str] = []
    first_C = np.unique(number_N, return_index=True)[1]
    given: dict[int, list[str]] = {}  # by component, the fixed splits in the order of its records
    known = np.flatnonzero(fixed_N != None)  # noqa: E711 (an array is compared, item by item)
    for index in known:
        names = given.setdefault(int(number_N[index]), [])
        if fixed_N[index] not in names:
            names.append(fixed_N[index])
    for number, smallest in enumerate(found.smallest):
        names = given.get(number, [])
        drawn.append(names[0] if names else split_of(smallest, shares[of_N[first_C[number]]]))
    split_N = np.array(drawn, dtype=object)[number_N]
    split_N[known] = fixed_N[known]
    sizes = np.bincount(number_N, minlength=len(drawn))
    leaks: Counter[str] = Counter()
    for number, names in given.items():
        if len(names) > 1:
            leaks["+".join(sorted(names))] += int(sizes[number])
    return split_N, dict(sorted(leaks.items()))


def held_out(records: Iterable[PreferenceRecord], share: float) -> list[bool]:
    """Which records to keep out of training, about such a share of them: with each of them all that hangs together with
    it, drawn by a hash that has nothing to do with the one of the splits."""
    found = connect(*Keys.of(records))
    shares = {"out": share, "in": 1 - share}
    out = [split_of(f"held out of training: {smallest}", shares) == "out" for smallest in found.smallest]
    return [out[number] for number in found.number_N.tolist()]


def components(records: Iterable[PreferenceRecord]) -> list[int]:
    """A number for each record, the same for all that hang together."""
    return [int(number) for number in connect(*Keys.of(records)).number_N]
