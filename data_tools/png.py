"""A quick way to know that a PNG is whole: its checksums, its chunks and the size of what they unpack to.

It leaves out the filters, which are most of the work of decoding. It says yes only to plain files, which are most; of
the others only decoding tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# by colour type, the depths in bits and the channels; not of palettes (3), whose indices can point outside them
_KINDS = {0: ((1, 2, 4, 8, 16), 1), 2: ((8, 16), 3), 4: ((8, 16), 2), 6: ((8, 16), 4)}
_LARGEST_FILTER = 4


def surely_whole(data: bytes) -> bool:
    """Whether the bytes are a PNG that decodes for certain; False where that isn't sure.

    Sure is one without palette, transparent colour, interlacing and anything between its pixels and its end.
    """
    header, packed, last = b"", list[bytes](), b""
    for name, body in _chunks(data):
        if name == b"IHDR" and not last:
            header = body
        elif name == b"tRNS" or (packed and name not in (b"IDAT", b"IEND")):
            return False
        if name == b"IDAT":
            packed.append(body)
        last = name
    if last != b"IEND" or len(header) != 13 or header[10:] != bytes(3):
        return False
    depths, channels = _KINDS.get(header[9], ((), 0))
    if header[8] not in depths:
        return False
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    row = 1 + (width * header[8] * channels + 7) // 8
    return _unpacks(b"".join(packed), row, height)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the chunks up to the first that is cut or has another checksum."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return
        yield data[position + 4 : position + 8], data[position + 8 : end]
        position = end + 4


def _unpacks(packed: bytes, row: int, height: int) -> bool:
    """Whether it unpacks to so many rows of bytes, each behind the number of a filter, and no byte more."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, row * height)
        rest = stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error:
        return False
    if rest or not stream.eof or len(raw) != row * height:
        return False
    return max(raw[::row], default=_LARGEST_FILTER + 1) <= _LARGEST_FILTER
