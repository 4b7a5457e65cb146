"""The members of a tar that somebody else wrote, read as a stream that trusts nothing.

Unlike the strict reader of our own shards (`data_tools.tar`) it knows the long names of GNU and PAX, and gives what
lies before damage. Unlike the standard library it tells of the damage, and holds no more than a member in memory.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from data_tools.rows.stream import Damaged
from data_tools.tar import BLOCK

_MOST_NAME = 2**16  # bytes of a long name's member
_MOST_SIZE = 2**40  # bytes that any member says it has; file systems refuse to seek much further
_STEP = 2**20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_EMPTY = (
    *_LINKS,
    tarfile.DIRTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)  # have no bytes behind them
_RECORD = re.compile(rb"([0-9]{1,9}) ")
_UNSAFE = re.compile(r"\A(?:/|[A-Za-z]:)|(?:\A|/)\.\.(?:/|\Z)|[\x00-\x1f\x7f\ufffd\\]")
# mode, owners, size, time and checksum as most programs write them
_NUMBERS = re.compile(rb"(?:[0-7]{7}[ \0]){3}([0-7]{11})[ \0][0-7]{11}[ \0]([0-7]{6})(?:\0 | \0|[ \0]{2})")
_DEVICES = (b"0000000\0" * 2, bytes(16))


class Entry(NamedTuple):
    """A member as its header tells of it: a `file`, a `link`, or `other` (a device, a sparse file)."""

    name: str
    kind: str
    size: int

    @property
    def unsafe(self) -> bool:
        """Whether the name could lead out of a folder, or isn't one that can be told of."""
        return not 0 < len(self.name) <= 1000 or _UNSAFE.search(self.name) is not None


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar: its first header's checksum is right."""
    try:
        tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "replace")
    except tarfile.HeaderError:
        return False
    return True


class Members:
    """Iterates over the entries of a tar in order; `read` gives the bytes of the entry at hand.

    Folders are left out. Both raise `Damaged` where the archive can't be read further.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._seekable = file, file.seekable()
        self._left = 0  # bytes of the present member that weren't read yet, with its padding
        self.position = 0

    def __iter__(self) -> Iterator[Entry]:
        name: str | None = None
        size: int | None = None
        sparse = False
        while True:
            header = self._header()
            if header == bytes(BLOCK):
                return
            plain = plain_header(header)
            if plain is not None and name is None and size is None and not sparse:
                self._left = plain[1] + -plain[1] % BLOCK
                yield Entry(_bare(plain[0]), "file", plain[1])
                continue
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "replace")
            except tarfile.HeaderError as error:
                raise Damaged("the archive is damaged") from error
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self._extension(info.size).partition(b"\0")[0].decode("utf-8", "replace")
                name = text if info.type == tarfile.GNUTYPE_LONGNAME else name
                continue
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
                fields = _pax(self._extension(info.size))
                if info.type != tarfile.XGLTYPE:  # what holds for all members is times and comments
                    name = fields["path"].decode("utf-8", "replace") if "path" in fields else name
                    size = _size(fields.get("size"))
                    sparse = any(key.startswith("GNU.sparse") for key in fields)
                continue
            entry = self._entry(info, name, size, sparse)
            name, size, sparse = None, None, False
            if info.type != tarfile.DIRTYPE:
                yield entry

    def _entry(self, info: tarfile.TarInfo, name: str | None, size: int | None, sparse: bool) -> Entry:
        size = 0 if info.type in _EMPTY else info.size if size is None else size
        if not 0 <= size < _MOST_SIZE:
            raise Damaged("the archive is damaged")
        self._left = size + -size % BLOCK
        kind = "link" if info.type in _LINKS else "file" if info.type in _FILES and not sparse else "other"
        return Entry(_bare(info.name if name is None else name), kind, size)

    def read(self, entry: Entry) -> bytes:
        """The bytes of the entry that was given last."""
        data = self._take(entry.size)
        self._left -= entry.size
        return data

    def padded(self) -> bool:
        """Whether nothing but padding follows the end mark, once the entries are at their end."""
        return not self._file.read(_STEP).strip(b"\0")

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_NAME:
            raise Damaged("the archive is damaged")
        return self._take(size + -size % BLOCK)[:size]

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        self.position += len(data)
        if len(data) < size:
            raise Damaged("the archive is cut short")
        return data

    def _header(self) -> bytes:
        """The next header, behind what is left of the present member."""
        size, self._left = self._left, 0
        if size and self._seekable:
            self._file.seek(size - 1, 1)
            self.position += size - 1
            return self._take(1 + BLOCK)[1:]  # with the last byte, to see that it's there
        while size:
            size -= len(self._take(min(size, _STEP)))
        return self._take(BLOCK)


def plain_header(header: bytes) -> tuple[str, int] | None:
    """Name and size, by the header of a file in which nothing is out of the ordinary; the others are left to the
    standard library, which takes ten times as long to say the same.
    """
    numbers = _NUMBERS.fullmatch(header, 100, 156)
    if (
        numbers is None
        or header[156:157] != tarfile.REGTYPE
        or header[329:345] not in _DEVICES
        or header[345] != 0  # the name goes on there
        or int(numbers[2], 8) != sum(header) - sum(header[148:156]) + 8 * ord(" ")
    ):
        return None
    return header[:100].partition(b"\0")[0].decode("utf-8", "replace"), int(numbers[1], 8)


def _bare(name: str) -> str:
    while name.startswith("./"):
        name = name[2:]
    return name


def _pax(data: bytes) -> dict[str, bytes]:
    """The fields of a PAX header: records of `LENGTH KEY=VALUE` and a line feed."""
    fields = {}
    while data:
        match = _RECORD.match(data)
        length = int(match[1]) if match else 0
        if match is None or not match.end() < length <= len(data) or data[length - 1 : length] != b"\n":
            raise Damaged("the archive is damaged")
        key, _, value = data[match.end() : length - 1].partition(b"=")
        fields[key.decode("utf-8", "replace")] = value
        data = data[length:]
    return fields


def _size(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(rb"[0-9]{1,18}", value):
        raise Damaged("the archive is damaged")
    return int(value)
