"""A part: what one piece of a source's input was read into, as a folder that appears whole or not at all.

records.bin     record after record: its JSON, then the bytes of its images that lie in no file
index.npz       what the plan decides by (`parts.index`)
quarantine/     the rows that gave no record
part.json       counts
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from data_tools.atomic import put_folder
from data_tools.errors import UserError
from data_tools.images import read_bytes
from data_tools.parts.index import IndexBuilder
from data_tools.schema import ImageRef, PreferenceRecord, from_json, to_json
from data_tools.shard_writer import record_bytes

RECORDS, INDEX, COUNTS = "records.bin", "index.npz", "part.json"


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `folder` at the end, and removed after an error."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        put_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_synced(path: Path, text: str) -> None:
    """Writes a file of a folder that isn't there yet under its name."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


class PartWriter:
    """Writes records and their index into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = IndexBuilder()
        self._file = open(folder / RECORDS, "wb")  # noqa: SIM115 (closed by `close`)
        self._offset = 0

    def pack(self, record: PreferenceRecord) -> tuple[PreferenceRecord, bytes, list[bytes]]:
        """What `add` takes: nothing is written before all records of a row can be.

        Raises:
            UserError: an image can't be read, or the record can't be written as JSON.
        """
        if any(not image.sha256 for image in record.images):
            record = replace(record, images=tuple(map(_hashed, record.images)))
        row = to_json(record)
        data = [image.data for image in record.images if image.data is not None]
        for image, said in zip(record.images, row["images"], strict=True):
            if image.data is not None:
                said["bytes"] = len(image.data)
        return record, record_bytes(row), data

    def add(self, packed: tuple[PreferenceRecord, bytes, list[bytes]], row: int) -> None:
        """Appends a record of a row."""
        record, body, images = packed
        length = len(body) + sum(map(len, images))
        self.index.add(record, row, self._offset, len(body), length)
        self._file.write(body)
        for data in images:
            self._file.write(data)
        self._offset += length

    def close(self) -> None:
        """Syncs the records and writes the index."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.index.save(self.folder / INDEX)

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.close()
        else:
            with suppress(OSError):  # a full disk fails once more
                self._file.close()


def _hashed(image: ImageRef) -> ImageRef:
    if image.sha256:
        return image
    return replace(image, sha256=hashlib.sha256(read_bytes(image)).hexdigest())


class PartReader:
    """Records of parts, by where they lie; holds few files open."""

    MOST_OPEN = 32

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self._open: dict[int, BinaryIO] = {}

    def read(
        self, part: int, offset: int, size: int, length: int, *, split: str | None = None
    ) -> PreferenceRecord:
        """The record, in another split where one is given; its images are bytes, or files that are read only later.

        Raises:
            UserError: the part is damaged.
        """
        data = self._bytes(part, offset, length)
        row = json.loads(data[:size])
        row["split"] = split or row["split"]
        images: list[ImageRef | bytes] = []
        at = size
        for said in row["images"]:
            if "path" in said:
                images.append(ImageRef(None, said["path"], said["sha256"], tuple(said.get("notes", ()))))
            else:
                held = data[at : at + said["bytes"]]
                images.append(ImageRef(held, None, said["sha256"], tuple(said.get("notes", ()))))
                at += said["bytes"]
        return from_json(row, tuple(images))

    def body(self, part: int, offset: int, size: int) -> bytes:
        """The record's JSON, without images."""
        return self._bytes(part, offset, size)

    def _bytes(self, part: int, offset: int, length: int) -> bytes:
        if part not in self._open:
            if len(self._open) >= self.MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[part] = open(self.folders[part] / RECORDS, "rb")  # noqa: SIM115 (closed by `close`)
        file = self._open[part]
        file.seek(offset)
        data = file.read(length)
        if len(data) < length:
            raise UserError(f"{self.folders[part] / RECORDS}: was cut short; add --overwrite to begin anew")
        return data

    def close(self) -> None:
        """Closes the files."""
        while self._open:
            self._open.popitem()[1].close()
