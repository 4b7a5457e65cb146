"""The little of the tar format that shards need: a writer with fixed metadata and a reader that trusts
nothing.

The standard library's reader stops silently at damage in the middle of an archive and reads a truncated one
as a shorter one; here both are errors. Members are plain files with short names; everything else is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_tools.errors import UserError

BLOCK = 512
_END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar: its name, where its bytes begin, and how many they are."""

    name: str
    offset: int
    size: int


class TarWriter:
    """Writes members one after another under a temporary name; `finish` makes the file appear, whole or not
    at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    def add(self, name: str, data: bytes) -> None:
        """Appends a member; the metadata is fixed, so equal contents give equal archives."""
        self._write(_header(name.encode("ascii"), len(data)) + data + bytes(-len(data) % BLOCK))

    def finish(self) -> str:
        """Ends the archive, syncs it, gives it its name, and returns its sha256."""
        self._write(_END)
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.temporary, self.path)
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Removes what was written so far."""
        if self._file is not None:
            # closing flushes the buffer once more, which fails again on a full disk
            with contextlib.suppress(OSError):
                self._file.close()
        self.temporary.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = open(self.temporary, "wb")  # noqa: SIM115 (closed by finish or discard)
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)


def _header(name: bytes, size: int) -> bytes:
    """The header of a plain file: what `tarfile` gives for USTAR, mode 644 and zeros elsewhere, in less time."""
    if not 0 < len(name) <= 100 or size >= 8**11:
        raise ValueError(f"{name!r} of {size} bytes is no member of a shard")
    octal = b"%011o" % size
    total = _CHECKSUM + sum(name) + sum(octal)
    # the checksum ends with a space, which is the first of the rest
    return b"".join((name, bytes(100 - len(name)), _OWNER, octal, _TIME, b"%06o\0" % total, _REST))


def _template() -> tuple[bytes, int]:
    """The header of an empty file without a name, and the sum of its bytes as the checksum takes it: its own place
    counts as spaces, and the size isn't there yet.
    """
    info = tarfile.TarInfo("")
    info.mode, info.mtime = 0o644, 0
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return header, sum(header) - sum(header[148:156]) + 8 * ord(" ") - sum(header[124:135])


_TEMPLATE, _CHECKSUM = _template()
_OWNER, _TIME, _REST = _TEMPLATE[100:124], _TEMPLATE[135:148], _TEMPLATE[155:]


def scan(path: Path) -> Iterator[Member]:
    """The members of a tar in order, from their headers alone.

    Raises:
        UserError: damaged or truncated, without its end mark, or a member that is no plain file.
    """
    total = path.stat().st_size
    with open(path, "rb") as file:
        position = 0
        while True:
            file.seek(position)
            header = file.read(BLOCK)
            if header == bytes(BLOCK):
                _check_end(path, file)
                return
            if len(header) < BLOCK:
                raise UserError(f"{path}: truncated; the archive stops without its end mark")
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
            except (tarfile.HeaderError, UnicodeDecodeError) as error:
                raise UserError(f"{path}: damaged at byte {position} ({error})") from error
            if info.type != tarfile.REGTYPE or info.size < 0:
                raise UserError(f"{path}: member {info.name!r} is no plain file")
            position += BLOCK
            if position + info.size > total:
                raise UserError(f"{path}: truncated inside member {info.name!r}")
            yield Member(info.name, position, info.size)
            position += info.size + -info.size % BLOCK


def _check_end(path: Path, file: BinaryIO) -> None:
    rest = file.read()
    if len(rest) < BLOCK or rest.strip(b"\0"):
        raise UserError(f"{path}: damaged; its end mark is cut short or followed by other data")
