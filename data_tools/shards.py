"""Strict, deterministic WebDataset shards: one source, kind, modality and split a tar.

The members of a record stand next to each other: `{key}.json`, then `{key}.0.png`, `{key}.1.jpg` ... Rows
with and without images never share a tar, because common readers then lose the images silently. The same
records give the same bytes. Left out on purpose: compression (images are compressed already, and offsets must
stay valid), pickles, and skipping what is damaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

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
from data_tools.schema import PreferenceRecord, from_json
from data_tools.shard_index import RecordIndex, where
from data_tools.shard_writer import Group, ShardWriter, kind_of
from data_tools.tar import BLOCK, name_of

__all__ = [
    "KINDS",
    "Kind",
    "RecordSet",
    "ShardInfo",
    "kind_of",
    "open_records",
    "open_shard",
    "read_record",
    "read_row",
    "write_shards",
]

ValueT = TypeVar("ValueT")


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


class RecordSet(Sequence[PreferenceRecord]):
    """The records of one split, read from disk as they are asked for, in the order of shards and keys.

    Nothing is held open, so it can be shared by threads and sent to worker processes; a million records take some
    tens of megabytes.
    """

    def __init__(self, directory: Path, split: str, kind: str | None, index: RecordIndex) -> None:
        self.directory, self.split, self.kind = directory, split, kind
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    @property
    def strata(self) -> list[tuple[str, str]]:
        """The (source, modality) of every record; reads nothing."""
        return self._spread([(shard.source, shard.modality) for shard in self._index.shards])

    @property
    def repeats(self) -> list[float]:
        """How often an epoch of the mixture shows every record, on the average; reads nothing."""
        return self._spread([shard.repeat for shard in self._index.shards])

    @property
    def image_counts(self) -> list[int]:
        """How many images every record has; reads nothing."""
        return self._index.image_counts()

    def meta(self, index: int) -> dict[str, Any]:
        """The record as plain JSON values (see `schema.to_json`), without reading its images."""
        return self._row(index)[1]

    def outline(self, index: int) -> PreferenceRecord:
        """The record with its images named but not read, for a look at what it says and how it hangs together."""
        place, row = self._row(index)
        row["images"] = [{**image, "path": place} for image in row["images"]]
        return from_json(row)

    @overload
    def __getitem__(self, index: int) -> PreferenceRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[PreferenceRecord]: ...

    def __getitem__(self, index: int | slice) -> PreferenceRecord | list[PreferenceRecord]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        place, (data, *images) = self._read(index, None)
        try:
            return read_record(self._index.shard(range(len(self))[index]), data, images)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    def _spread(self, values: list[ValueT]) -> list[ValueT]:
        """A value for each shard as one for each record."""
        held = zip(values, self._index.held(), strict=True)
        return [value for value, number in held for _ in range(number)]

    def _row(self, index: int) -> tuple[str, dict[str, Any]]:
        """The place of a record in words, and its JSON."""
        place, (data,) = self._read(index, 1)
        try:
            return place, read_row(data)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    def _read(self, index: int, most: int | None) -> tuple[str, list[bytes]]:
        """The place of a record in words, and the bytes of its first members, in one read."""
        index = range(len(self))[index]  # from the end, where it is below 0
        path = self.directory / self._index.shard(index).name
        spans = self._index.spans(index)[:most]
        start, end = spans[0][0] - BLOCK, spans[-1][1]  # with the header before the JSON, which has the key
        try:
            with open(path, "rb") as file:
                file.seek(start)
                data = file.read(end - start)
        except OSError as error:
            raise UserError(f"{path}: can't be read ({error})") from error
        place = where(path, name_of(data[:BLOCK]).removesuffix(".json"))
        if len(data) < end - start:
            raise UserError(f"{place}: truncated since it was opened")
        return place, [data[first - start : last - start] for first, last in spans]


def read_row(data: bytes) -> dict[str, Any]:
    """The JSON of a record; raises UserError where it is damaged."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"its JSON is damaged ({error})") from error
    if not isinstance(row, dict):
        raise UserError("its JSON is no record")
    return row


def read_record(shard: ShardInfo, data: bytes, images: Sequence[bytes]) -> PreferenceRecord:
    """The record that members of a shard hold, its JSON and its images.

    Raises:
        UserError: it is damaged, another image's, or not of the shard's source, kind, modality and split.
    """
    row = read_row(data)
    record = from_json(row, images=tuple(images))
    found = (record.source, kind_of(record), record.modality, record.split)
    if found != (shard.source, shard.kind, shard.modality, shard.split):
        raise UserError(f"is {found}, which this shard must not hold")
    if [image.get("sha256") for image in row["images"]] != [image.sha256 for image in record.images]:
        raise UserError("an image is damaged or is another record's (its hash differs)")
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
        raise UserError(
            f"{directory}: has no split {split!r}; it has: {known}. Name one of these, or give a source a share of it "
            f"(splits: {{train: 0.9, {split}: 0.1}}) and build the data again"
        )
    if kind is not None:
        known = ", ".join(sorted({shard.kind for shard in shards}))
        shards = [shard for shard in shards if shard.kind == kind]
        if not shards:
            raise UserError(f"{directory}: its {split} split has no {kind} records; it has: {known}")
    if verify:
        for shard in shards:
            _verify(directory / shard.name, shard.sha256)
    return RecordSet(directory, split, kind, RecordIndex(directory, shards))


def open_shard(directory: Path, shard: ShardInfo) -> RecordSet:
    """The records of one shard of a data directory.

    Raises:
        UserError: it is damaged; the message names shard and key.
    """
    return RecordSet(directory, shard.split, shard.kind, RecordIndex(directory, [shard]))


def _verify(path: Path, sha256: str) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise UserError(f"{path}: its content was changed or damaged (another sha256 than the manifest's)")
