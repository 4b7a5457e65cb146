"""Files as streams of bytes, compressed with gzip or not, that give what lies before damage and then tell of it.

The standard library's gzip reader loses what it had unpacked when it meets damage; this one gives it first.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from data_tools.errors import UserError

GZIP = b"\x1f\x8b"
_BLOCK = 2**16  # compressed bytes at once
_MOST = 2**20  # unpacked bytes at once
_READ = 2**18  # bytes asked of the file at once


class Damaged(UserError):
    """A file can't be read further than here; the message says why, the same for the same kind of damage."""


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip files do."""
    with open(path, "rb") as file:
        return file.read(2) == GZIP


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked where it is gzip; reading raises `Damaged` at the place where unpacking fails."""
    with open(path, "rb", _READ) as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        yield cast(BinaryIO, io.BufferedReader(_Gunzip(file), _MOST)) if packed else file


def head(path: Path, size: int = 512) -> bytes:
    """The first bytes of what a file holds, unpacked; fewer where it is shorter or damaged there."""
    found = b""
    with open_bytes(path) as file, contextlib.suppress(Damaged):
        while len(found) < size and (more := file.read1(size - len(found))):  # type: ignore[attr-defined]
            found += more
    return found


class _Gunzip(io.RawIOBase):
    """What is packed in a gzip file of one or several members."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._input = b""
        self._damage: Damaged | None = None
        self._careful = False  # byte by byte, since the damage is near
        self._start()

    def _start(self) -> None:
        self._unpacker: Any = zlib.decompressobj(31)
        self._begun = False  # whether the present member has any bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._damage is None:
            self._input = self._input or self._file.read(_BLOCK)
            last = not self._input
            if not self._begun:
                self._input = self._input.lstrip(b"\0")  # padding between members
                if last:
                    return 0
                if not self._input:
                    continue
            data = self._unpack(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if last and self._begun:
                self._damage = Damaged("the gzip file is cut short")
        raise self._damage

    def _unpack(self, most: int) -> bytes:
        self._begun = True
        block = self._input[:1] if self._careful else self._input
        before = self._unpacker.copy()
        try:
            data = cast(bytes, self._unpacker.decompress(block, most))
        except zlib.error:
            # what this block held before the damage is unpacked once more, byte by byte
            if self._careful:
                self._damage = Damaged("the gzip file is damaged")
            self._unpacker, self._careful = before, True
            return b""
        rest = self._input[len(block) :]
        if self._unpacker.eof:
            self._input = self._unpacker.unused_data + rest
            self._start()
        else:
            self._input = self._unpacker.unconsumed_tail + rest
        return data
