"""Strict, deterministic WebDataset shards: one source, kind, modality and split a tar.

The members of a record stand next to each other: `{key}.json`, then `{key}.0.png`, `{key}.1.jpg` ... Rows
with and without images never share a tar, because common readers then lose the images silently. The same
records give the same bytes. Left out on purpose: compression (images are compressed already, and offsets must
stay valid), pickles, and skipping what is damaged.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from data_tools.atomic import writing_to
from data_tools.errors import UserError
from data_tools.manifest import (
    KINDS,
    MANIFEST,
    Kind,
    ShardInfo,
    read_manifest,
    write_manifest,
)
from data_tools.schema import PreferenceRecord, SchemaError, from_json
from data_tools.shard_writer import Group, ShardWriter, kind_of
from data_tools.tar import Member, scan

__all__ = ["KINDS", "Kind", "RecordSet", "ShardInfo", "kind_of", "open_records", "open_shard", "write_shards"]

_MEMBER = re.compile(r"(?P<key>[a-z0-9_-]+)\.(?:json|(?P<index>0|[1-9][0-9]{0,3})\.(?:png|jpg|webp))")


def write_shards(
    records: Iterable[PreferenceRecord],
    directory: Path,
    max_records: int = 1000,
    extra: dict[str, Any] | None = None,
) -> list[ShardInfo]:
    """Writes the records as shards of at most `max_records`, then the manifest with `extra` in it.

    Images that are neither PNG, JPEG nor WebP are stored as PNG. Each shard is written under a temporary
    name, synced and renamed; after a failure the finished ones stay, without a manifest.

    Raises:
        UserError: the disk is full, an image is bad, or the directory holds a finished data set already.
    """
    directory = Path(directory)
    if (directory / MANIFEST).exists():
        raise UserError(f"{directory}: already holds a finished data set; choose another folder")
    begun: dict[Group, ShardWriter] = {}
    finished: dict[Group, list[ShardInfo]] = {}
    try:
        with writing_to(directory):
            directory.mkdir(parents=True, exist_ok=True)
            for record in records:
                group = Group.of(record)
                done = finished.setdefault(group, [])
                if group not in begun:
                    path = directory / group.shard_name(len(done))
                    begun[group] = ShardWriter(path, group, first=sum(shard.records for shard in done))
                begun[group].add(record)
                if begun[group].records >= max_records:
                    done.append(begun.pop(group).finish())
            for group in list(begun):
                finished[group].append(begun.pop(group).finish())
            shards = [shard for group in sorted(finished) for shard in finished[group]]
            write_manifest(directory, shards, extra or {})
    finally:
        for writer in begun.values():
            writer.discard()
    return shards


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a record lies: its shard, and its members, the JSON first."""

    shard: ShardInfo
    key: str
    members: tuple[Member, ...]


class RecordSet(Sequence[PreferenceRecord]):
    """The records of one split, read from disk as they are asked for, in the order of shards and keys.

    Nothing is held open, so it can be shared by threads and sent to worker processes.
    """

    def __init__(self, directory: Path, split: str, kind: str | None, entries: list[_Entry]) -> None:
        self.directory, self.split, self.kind = directory, split, kind
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def strata(self) -> list[tuple[str, str]]:
        """The (source, modality) of every record; reads nothing."""
        return [(entry.shard.source, entry.shard.modality) for entry in self._entries]

    @property
    def repeats(self) -> list[float]:
        """How often an epoch of the mixture shows every record, on the average; reads nothing."""
        return [entry.shard.repeat for entry in self._entries]

    @property
    def image_counts(self) -> list[int]:
        """How many images every record has; reads nothing."""
        return [len(entry.members) - 1 for entry in self._entries]

    def meta(self, index: int) -> dict[str, Any]:
        """The record as plain JSON values (see `schema.to_json`), without reading its images."""
        entry = self._entries[index]
        return self._row(entry, self._read(entry, entry.members[:1])[0])

    def outline(self, index: int) -> PreferenceRecord:
        """The record with its images named but not read, for a look at what it says and how it hangs together."""
        entry, row = self._entries[index], self.meta(index)
        row["images"] = [{**image, "path": self._where(entry)} for image in row["images"]]
        return from_json(row)

    @overload
    def __getitem__(self, index: int) -> PreferenceRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[PreferenceRecord]: ...

    def __getitem__(self, index: int | slice) -> PreferenceRecord | list[PreferenceRecord]:
        if isinstance(index, slice):
            return [self._record(entry) for entry in self._entries[index]]
        return self._record(self._entries[index])

    def _where(self, entry: _Entry) -> str:
        return f"{self.directory / entry.shard.name}: key {entry.key}"

    def _read(self, entry: _Entry, members: tuple[Member, ...]) -> list[bytes]:
        """The bytes of adjacent members, in one read."""
        start, end = members[0].offset, members[-1].offset + members[-1].size
        try:
            with open(self.directory / entry.shard.name, "rb") as file:
                file.seek(start)
                data = file.read(end - start)
        except OSError as error:
            raise UserError(f"{self._where(entry)}: can't be read ({error})") from error
        if len(data) < end - start:
            raise UserError(f"{self._where(entry)}: truncated since it was opened")
        return [data[member.offset - start : member.offset - start + member.size] for member in members]

    def _row(self, entry: _Entry, data: bytes) -> dict[str, Any]:
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self._where(entry)}: its JSON is damaged ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{self._where(entry)}: its JSON is no record")
        return row

    def _record(self, entry: _Entry) -> PreferenceRecord:
        data, *images = self._read(entry, entry.members)
        row = self._row(entry, data)
        try:
            record = from_json(row, images=tuple(images))
        except SchemaError as error:
            raise UserError(f"{self._where(entry)}: {error}") from error
        shard = entry.shard
        found = (record.source, kind_of(record), record.modality, record.split)
        if found != (shard.source, shard.kind, shard.modality, shard.split):
            raise UserError(f"{self._where(entry)}: is {found}, which this shard must not hold")
        said = row.get("images")
        hashes = [image.get("sha256") for image in said] if isinstance(said, list) else []
        if hashes != [image.sha256 for image in record.images]:
            raise UserError(
                f"{self._where(entry)}: an image is damaged or is another record's (its hash differs)"
            )
        return record


def open_records(
    directory: str | Path, split: str, verify: bool = False, kind: str | None = None
) -> RecordSet:
    """The records of a split, of one kind or of all; `verify` also compares every shard's hash.

    Raises:
        UserError: no such data, split or kind, or a shard that is damaged in any way; it names shard and key.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)
    shards = [shard for shard in manifest.shards if shard.split == split]
    if not shards:
        known = ", ".join(sorted({shard.split for shard in manifest.shards})) or "none"
        raise UserError(f"{directory}: has no split {split!r}; it has: {known}")
    if kind is not None:
        known = ", ".join(sorted({shard.kind for shard in shards}))
        shards = [shard for shard in shards if shard.kind == kind]
        if not shards:
            raise UserError(f"{directory}: its {split} split has no {kind} records; it has: {known}")
    if verify:
        for shard in shards:
            _verify(directory / shard.name, shard.sha256)
    return RecordSet(
        directory, split, kind, [entry for shard in shards for entry in _index(directory, shard)]
    )


def open_shard(directory: Path, shard: ShardInfo) -> RecordSet:
    """The records of one shard of a data directory.

    Raises:
        UserError: it is damaged; the message names shard and key.
    """
    return RecordSet(directory, shard.split, shard.kind, list(_index(directory, shard)))


def _verify(path: Path, sha256: str) -> None:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        raise UserError(f"{path}: its content was changed or damaged (another sha256 than the manifest's)")


def _index(directory: Path, shard: ShardInfo) -> Iterator[_Entry]:
    """The records of a shard, by its headers; every rule of the format is checked here."""
    path = directory / shard.name
    seen: set[str] = set()
    key, members = "", list[Member]()
    for member in scan(path):
        match = _MEMBER.fullmatch(member.name)
        if not match:
            raise UserError(
                f"{path}: member {member.name!r} is none of KEY.json, KEY.N.png, KEY.N.jpg, KEY.N.webp"
            )
        if match["key"] != key:
            if members:
                yield _entry(path, shard, key, members)
            key, members = match["key"], []
            if key in seen:
                raise UserError(f"{path}: key {key}: its members are not adjacent")
            seen.add(key)
        # the JSON first, then the images 0, 1, 2 ...
        if match["index"] != (str(len(members) - 1) if members else None):
            raise UserError(
                f"{path}: key {key}: member {member.name!r} is out of order or its JSON is missing"
            )
        members.append(member)
    if members:
        yield _entry(path, shard, key, members)
    if len(seen) != shard.records:
        raise UserError(f"{path}: holds {len(seen)} records, the manifest says {shard.records}")


def _entry(path: Path, shard: ShardInfo, key: str, members: list[Member]) -> _Entry:
    if (len(members) > 1) != (shard.modality == "image-text"):
        what = "lacks its images" if len(members) == 1 else "has images in a text-only shard"
        raise UserError(f"{path}: key {key}: {what}")
    return _Entry(shard, key, tuple(members))
