"""Train and test by the hash of what a record must not share across them, so that nothing leaks.

Records hang together if they share an image (any of theirs, by the hash of its bytes, whatever source it comes
from), a text-only prompt's first question, or, within a source, a flip pair or a group that the source declares
(`provenance["group"]`). All that hangs together lies in one split, which is drawn from the smallest image hash or
question among it and cut by the shares of the first of its sources. So the split of a record depends on the records
it hangs together with and on nothing else: neither on the seed nor on the order of rows.

A split is fixed for the records of a source whose `splits` names no other, such as a data set's own test file, and
for a record with `provenance["split"]`: they stay there, and what hangs together with them goes there too. Where two
fixed splits meet, the input itself leaks: both are kept as they are given, other records follow the first of them,
and the records concerned are counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from data_tools.schema import PreferenceRecord
from data_tools.union import UnionFind

DEFAULT_SPLITS = {"train": 0.9, "test": 0.1}
_NAME = re.compile(r"[a-z0-9_]+")

Key = tuple[str, str]  # what kind of thing records may share, and which one


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


def assign_splits(
    records: Sequence[PreferenceRecord], shares: Mapping[str, Mapping[str, float]]
) -> tuple[list[PreferenceRecord], dict[str, int]]:
    """The records in their splits; and the leaks of the input: by the fixed splits that meet ("test+train"), how many
    records hang together across them.

    `shares` holds each source's shares of splits, by its name.
    """
    out = list(records)
    leaks: Counter[str] = Counter()
    for smallest, members in _components(records):
        fixed = {index: name for index in members if (name := _fixed(records[index], shares))}
        drawn = next(iter(fixed.values()), "") or split_of(smallest, shares[records[members[0]].source])
        for index in members:
            out[index] = dataclasses.replace(records[index], split=fixed.get(index, drawn))
        if len(set(fixed.values())) > 1:
            leaks["+".join(sorted(set(fixed.values())))] += len(members)
    return out, dict(sorted(leaks.items()))


def held_out(records: Sequence[PreferenceRecord], share: float) -> list[bool]:
    """Which records to keep out of training, about such a share of them: with each of them all that hangs together with
    it, drawn by a hash that has nothing to do with the one of the splits."""
    out = [False] * len(records)
    for smallest, members in _components(records):
        drawn = split_of(f"held out: {smallest}", {"out": share, "in": 1 - share}) == "out"
        for index in members:
            out[index] = drawn
    return out


def components(records: Sequence[PreferenceRecord]) -> list[int]:
    """A number for each record, the same for all that hang together."""
    out = [0] * len(records)
    for number, (_, members) in enumerate(_components(records)):
        for index in members:
            out[index] = number
    return out


def _components(records: Sequence[PreferenceRecord]) -> list[tuple[str, list[int]]]:
    """All that hangs together, by index, each with the smallest image hash or question among it."""
    content = [_content_keys(record) for record in records]
    links = UnionFind[Key]()
    for record, keys in zip(records, content, strict=True):
        links.join([*keys, *_declared_keys(record)])
    components: dict[Key, list[int]] = {}
    for index, keys in enumerate(content):
        components.setdefault(links.find(keys[0]), []).append(index)
    return [
        (min(key for index in members for key in content[index])[1], members)
        for members in components.values()
    ]


def _fixed(record: PreferenceRecord, shares: Mapping[str, Mapping[str, float]]) -> str | None:
    """The split that the record itself names, or the one split of a source that has no other."""
    named = record.provenance.get("split")
    if isinstance(named, str):
        return named
    of_source = shares[record.source]
    return next(iter(of_source)) if len(of_source) == 1 else None


def _content_keys(record: PreferenceRecord) -> list[Key]:
    """The images, or the first question where there are none: the same for every source."""
    if record.images:
        return [("image", image.sha256 or image.path or record.id) for image in record.images]
    first = next((message.text for message in record.prompt if message.role == "user"), record.prompt[0].text)
    return [("question", " ".join(first.split()))]


def _declared_keys(record: PreferenceRecord) -> list[Key]:
    """The flip pair and the group that the source gives the record; their names mean nothing outside of it."""
    return [
        (kind, f"{record.source}/{record.provenance[kind]}")
        for kind in ("flip", "group")
        if isinstance(record.provenance.get(kind), str)
    ]
