"""One shard: a tar of records of one source, kind, modality and split, written by itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.images import ImageError, bare_bytes, extension, read_bytes, stored_bytes
from data_tools.manifest import Kind, ShardInfo
from data_tools.schema import ImageRef, Modality, PreferenceRecord, SchemaError, to_json
from data_tools.tar import TarWriter

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


def kind_of(record: PreferenceRecord) -> Kind:
    """`prompt` without a response, `preference` with anything judged, else `demonstration`."""
    if not record.responses:
        return "prompt"
    judged = record.comparisons or record.ratings or record.rankings
    return "preference" if judged else "demonstration"


@dataclass(frozen=True, order=True)
class Group:
    """What the records of a shard have in common."""

    source: str
    kind: Kind
    modality: Modality
    split: str

    @staticmethod
    def of(record: PreferenceRecord) -> Group:
        """The group that a record belongs to."""
        return Group(record.source, kind_of(record), record.modality, record.split)

    def shard_name(self, number: int) -> str:
        """The file name of its shard of that number, from 0.

        Raises:
            SchemaError: the source's or the split's name can't be part of a file name.
        """
        for what, name in (("source", self.source), ("split", self.split)):
            if not _NAME.fullmatch(name):
                raise SchemaError(
                    f"the {what} {name!r} can't be part of a file name; use letters, digits, _ . and -"
                )
        return f"{self.source}-{self.kind}-{self.modality}-{self.split}-{number:06d}.tar"


class ShardWriter:
    """Writes the records of a group, one after the other; `finish` makes the file appear, `discard` removes it."""

    def __init__(
        self, path: Path, group: Group, first: int = 0, prefix: str = "", keep_metadata: bool = False
    ) -> None:
        """The keys are `prefix` and a number of eight digits that counts from `first`; `keep_metadata` as in
        `make_ready`.
        """
        self.tar, self.group, self.keep_metadata = TarWriter(path), group, keep_metadata
        self.first, self.prefix = first, prefix
        self.records = 0
        self.objectives: Counter[str] = Counter()
        self.ratings: Counter[str] = Counter()
        self.rankings: Counter[str] = Counter()
        self.binaries: Counter[str] = Counter()

    def add(self, record: PreferenceRecord) -> Ready:
        """Appends a record, images and all; what was written of it.

        Raises:
            UserError: an image is bad, or it can't be written as JSON.
        """
        ready = make_ready(record, self.keep_metadata)
        self.add_ready(ready)
        return ready

    def add_ready(self, ready: Ready) -> None:
        """Appends a record that was made ready."""
        key = f"{self.prefix}{self.first + self.records:08d}"
        self.tar.add(f"{key}.json", ready.body)
        for index, data in enumerate(ready.images):
            self.tar.add(f"{key}.{index}.{extension(data)}", data)
        self.records += 1
        row = ready.row
        for comparison in row["comparisons"]:
            self.objectives[comparison["objective"]] += 1
        for rating in row["ratings"]:
            self.ratings[rating["objective"]] += 1
            if rating["kind"] == "binary":
                self.binaries[rating["objective"]] += 1
        for ranking in row["rankings"]:
            self.rankings[ranking["objective"]] += 1

    def finish(self, repeat: float = 1.0) -> ShardInfo:
        """Ends the tar, syncs it and gives it its name; at least one record must be in it. `repeat` is how often an
        epoch of the mixture shows each, on the average.
        """
        digest = self.tar.finish()
        return ShardInfo(
            name=self.tar.path.name,
            sha256=digest,
            records=self.records,
            bytes=self.tar.bytes,
            source=self.group.source,
            kind=self.group.kind,
            modality=self.group.modality,
            split=self.group.split,
            objectives=dict(sorted(self.objectives.items())),
            ratings=dict(sorted(self.ratings.items())),
            rankings=dict(sorted(self.rankings.items())),
            binaries=dict(sorted(self.binaries.items())),
            repeat=repeat,
        )

    def discard(self) -> None:
        """Removes what was written, unless it is finished."""
        self.tar.discard()


@dataclass(frozen=True)
class Ready:
    """A record as it will stand in a shard: its group, its JSON as values and as bytes, and its images' bytes."""

    group: Group
    row: dict[str, Any]
    body: bytes
    images: list[bytes]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """The format and the bytes of each image, as `tally.Tally.add` takes them."""
        return [(extension(data) or "", len(data)) for data in self.images]


def make_ready(record: PreferenceRecord, keep_metadata: bool = False) -> Ready:
    """The record as `ShardWriter.add_ready` takes it, its images without metadata but where that is kept.

    Raises:
        UserError: an image is bad, or it can't be written as JSON.
    """
    images = [image_bytes(record, image, keep_metadata) for image in record.images]
    row = to_json(record)
    row["images"] = [
        {"sha256": digest, **({"notes": said["notes"]} if "notes" in said else {})}
        for (_, digest), said in zip(images, row["images"], strict=True)
    ]
    return Ready(Group.of(record), row, record_bytes(row), [data for data, _ in images])


def record_bytes(row: dict[str, Any]) -> bytes:
    """The JSON of a record (see `schema.to_json`) as it stands in a shard: the same bytes for the same record.

    Raises:
        SchemaError: it holds NaN, infinity, half a character, or what isn't JSON at all.
    """
    try:
        return _JSON.encode(row).encode("utf-8")
    except UnicodeEncodeError:
        # not in the words of the codec, which tell of a place and so differ from record to record
        raise SchemaError(
            f"record {row['id']} of {row['source']}: can't be written as JSON (it holds half a character, a lone "
            "surrogate)"
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaError(
            f"record {row['id']} of {row['source']}: can't be written as JSON ({error})"
        ) from error


def image_bytes(record: PreferenceRecord, image: ImageRef, keep_metadata: bool = False) -> tuple[bytes, str]:
    """An image's bytes as a shard holds them (see `images.stored_bytes`), and their sha256; without metadata
    (`images.bare_bytes`), unless that is kept.

    Raises:
        ImageError: it can't be read; the message names the record.
    """
    try:
        read = read_bytes(image)
        data = stored_bytes(read)
        data = data if keep_metadata else bare_bytes(data)
        # the hash that the record says was taken of these bytes, or compared with them when they were read
        known = image.sha256 if data is read else ""
        return data, known or hashlib.sha256(data).hexdigest()
    except ImageError as error:
        raise ImageError(
            f"record {record.id} of {record.source}: {error}", error.code, error.reason
        ) from error
