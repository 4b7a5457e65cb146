"""Where the records of shards lie, by the headers of their members; the rules of the format are checked here."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from data_tools.errors import UserError
from data_tools.manifest import ShardInfo
from data_tools.tar import BLOCK, Member, scan

_MEMBER = re.compile(r"(?P<key>[a-z0-9_-]+)\.(?:json|(?P<index>0|[1-9][0-9]{0,3})\.(?:png|jpg|webp))")

Fail = Callable[[str, str], None]  # a key, or "" for the shard as a whole, and what is wrong


class Entry(NamedTuple):
    """A record in a shard: its key, and its members, the JSON first, then the images in their order."""

    key: str
    members: tuple[Member, ...]


def entries(path: Path, shard: ShardInfo, fail: Fail) -> Iterator[Entry]:
    """The whole records of a shard, in order; `fail` is told of every other thing, and may raise.

    Raises:
        UserError: the tar itself is damaged, so that nothing behind that place can be found.
    """
    seen: set[str] = set()
    key, members, whole = "", list[Member](), True

    def complete() -> bool:
        if members and whole and (len(members) > 1) != (shard.modality == "image-text"):
            fail(key, "lacks its images" if len(members) == 1 else "has images in a text-only shard")
            return False
        return bool(members) and whole

    for member in scan(path):
        match = _MEMBER.fullmatch(member.name)
        if not match:
            fail("", f"member {member.name!r} is none of KEY.json, KEY.N.png, KEY.N.jpg, KEY.N.webp")
            continue
        if match["key"] != key:
            if complete():
                yield Entry(key, tuple(members))
            key, members, whole = match["key"], [], match["key"] not in seen
            if not whole:
                fail(key, "its members are not adjacent")
            seen.add(key)
        # the JSON first, then the images 0, 1, 2 ...
        if whole and match["index"] != (str(len(members) - 1) if members else None):
            fail(key, f"member {member.name!r} is out of order or its JSON is missing")
            whole = False
        members.append(member)
    if complete():
        yield Entry(key, tuple(members))
    if len(seen) != shard.records:
        fail("", f"holds {len(seen)} records, the manifest says {shard.records}")


def where(path: Path, key: str) -> str:
    """A record's place in words; of the shard as a whole where there is no key."""
    return f"{path}: key {key}" if key else str(path)


class RecordIndex:
    """The places of many records in a few arrays: 16 bytes a record, and 8 for each of its members."""

    def __init__(self, directory: Path, shards: Sequence[ShardInfo]) -> None:
        """Reads the headers of all shards once; raises `UserError` at the first thing that breaks the format."""
        self.shards = tuple(shards)
        self._starts: list[int] = []  # of each shard, the number of its first record
        offsets, firsts, sizes = array("q"), array("q", [0]), array("q")
        for shard in shards:
            path = directory / shard.name

            def fail(key: str, what: str, path: Path = path) -> NoReturn:
                raise UserError(f"{where(path, key)}: {what}")

            self._starts.append(len(offsets))
            for entry in entries(path, shard, fail):
                offsets.append(entry.members[0].offset)
                sizes.extend(member.size for member in entry.members)
                firsts.append(len(sizes))
        self._offsets = np.array(offsets, np.int64)  # of the JSON
        self._firsts = np.array(firsts, np.int64)  # record i has the members firsts[i] to firsts[i + 1]
        self._sizes = np.array(sizes, np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    def shard(self, index: int) -> ShardInfo:
        """The shard that holds a record."""
        return self.shards[bisect_right(self._starts, index) - 1]

    def held(self) -> list[int]:
        """How many records each of the shards holds."""
        return [end - start for start, end in zip(self._starts, [*self._starts[1:], len(self)], strict=True)]

    def image_counts(self) -> list[int]:
        """How many images every record has."""
        counts: list[int] = (np.diff(self._firsts) - 1).tolist()
        return counts

    def spans(self, index: int) -> list[tuple[int, int]]:
        """Where in its shard the record's members begin and end, the JSON first."""
        start, out = int(self._offsets[index]), []
        for size in self._sizes[self._firsts[index] : self._firsts[index + 1]].tolist():
            out.append((start, start + size))
            start += size + -size % BLOCK + BLOCK  # what fills the block, and the next one's header
        return out
