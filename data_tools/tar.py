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
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_tools.atomic import sync_folder
from data_tools.errors import UserError

BLOCK = 512
_END = bytes(2 * BLOCK)
_BUFFER = 2**18  # bytes given to the file at once
_NAME, _SIZE, _SUM = slice(0, 100), slice(124, 136), slice(148, 156)  # the fields in which our headers differ


class Member(NamedTuple):
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
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.bytes = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None

    def add(self, name: str, data: bytes) -> None:
        """Appends a member; the metadata is fixed, so equal contents give equal archives."""
        self._write(_header(name.encode(), len(data)) + data + bytes(-len(data) % BLOCK))

    def finish(self) -> str:
        """Ends the archive, syncs it, gives it its name, and returns its sha256."""
        self._write(_END)
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.temporary, self.path)
        sync_folder(self.path.parent)
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
            self._file = open(self.temporary, "wb", _BUFFER)  # noqa: SIM115 (closed by finish or discard)
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)


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
            name, size = _plain(header) or _foreign(path, header, position)
            position += BLOCK
            if position + size > total:
                raise UserError(f"{path}: truncated inside member {name!r}")
            yield Member(name, position, size)
            position += size + -size % BLOCK


def name_of(header: bytes) -> str:
    """The name in a header that `scan` has read before."""
    return header[_NAME].rstrip(b"\0").decode("utf-8", "replace")


def _blank() -> bytes:
    info = tarfile.TarInfo()
    info.mode, info.mtime, info.uid, info.gid = 0o644, 0, 0, 0
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


_BLANK = _blank()
_BLANK_SUM = sum(_BLANK[: _SIZE.start]) + sum(_BLANK[_SIZE.stop : _SUM.start]) + sum(_BLANK[_SUM.stop :])


def _header(name: bytes, size: int) -> bytes:
    """The header of a plain file, with fixed metadata; `tarfile` makes the same ten times more slowly."""
    if len(name) > 100 or size >= 8**11:
        raise UserError(f"a tar member is too large, or its name too long: {name[:120]!r}, {size:,} bytes")
    told = b"%011o\0" % size
    total = _BLANK_SUM + sum(name) + sum(told) + 8 * ord(" ")  # a checksum counts itself as blanks
    return b"".join(
        (
            name.ljust(100, b"\0"),
            _BLANK[_NAME.stop : _SIZE.start],
            told,
            _BLANK[_SIZE.stop : _SUM.start],
            b"%06o\0 " % total,
            _BLANK[_SUM.stop :],
        )
    )


def _plain(header: bytes) -> tuple[str, int] | None:
    """Name and size, of a header that is one of ours to the last bit."""
    name = header[_NAME].rstrip(b"\0")
    digits = header[_SIZE][:-1]
    if not digits.isdigit() or not name.isascii():
        return None
    try:
        size = int(digits, 8)
    except ValueError:
        return None
    return (name.decode(), size) if header == _header(name, size) else None


def _foreign(path: Path, header: bytes, position: int) -> tuple[str, int]:
    """Name and size, of a plain file in a tar that another program wrote."""
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged at byte {position} ({error})") from error
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise UserError(f"{path}: member {info.name!r} is no plain file")
    return info.name, info.size


def _check_end(path: Path, file: BinaryIO) -> None:
    rest = file.read()
    if len(rest) < BLOCK or rest.strip(b"\0"):
        raise UserError(f"{path}: damaged; its end mark is cut short or followed by other data")
