"""A quick way to know that a PNG is whole: its checksums, its chunks and the size of what they unpack to.

It leaves out the filters, which are most of the work of decoding. It says yes only to plain files, which are most; of
the others only decoding tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# by colour type, the depths in bits and the channels; not of palettes (3), whose indices can point outside them
_KINDS = {0: ((1, 2, 4, 8, 16), 1), 2: ((8, 16), 3), 4: ((8, 16), 2), 6: ((8, 16), 4)}
_LARGEST_FILTER = 4
# beside the pixels, chunks of one length each that change neither them nor how they are shown
_HARMLESS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}


def plain_size(data: bytes, most: int) -> tuple[int, int] | None:
    """Width and height of a PNG that is surely whole, of at most so many pixels, and about which nothing else is to be
    told: it is no animation, and has no texts or EXIF data, which might turn it. None where that isn't sure.
    """
    if not data.startswith(_SIGNATURE):
        return None
    chunks = _chunks(data)
    if len(chunks) < 3 or chunks[0][0] != b"IHDR" or chunks[-1][0] != b"IEND":
        return None
    if not all(name == b"IDAT" or _HARMLESS.get(name) == len(body) for name, body in chunks[1:-1]):
        return None
    header = chunks[0][1]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    return (width, height) if 0 < width * height <= most and _whole(chunks) else None


def surely_whole(data: bytes) -> bool:
    """Whether the bytes are a PNG that decodes for certain; False where that isn't sure.

    Sure is one without palette, transparent colour, interlacing and anything between its pixels and its end.
    """
    return _whole(_chunks(data))


def _whole(chunks: Sequence[tuple[bytes, bytes]]) -> bool:
    header, packed, last = b"", list[bytes](), b""
    for name, body in chunks:
        if name == b"IHDR" and not last:
            header = body
        elif name == b"tRNS" or (packed and name not in (b"IDAT", b"IEND")):
            return False
        if name == b"IDAT":
            packed.append(body)
        last = name
    if last != b"IEND" or chunks[-1][1] or len(header) != 13 or header[10:] != bytes(3):
        return False
    depths, channels = _KINDS.get(header[9], ((), 0))
    if header[8] not in depths:
        return False
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    row = 1 + (width * header[8] * channels + 7) // 8
    return _unpacks(b"".join(packed), row, height)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of the chunks up to the first that is cut or has another checksum."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            break
        chunks.append((data[position + 4 : position + 8], data[position + 8 : end]))
        position = end + 4
    return chunks


def _unpacks(packed: bytes, row: int, height: int) -> bool:
    """Whether it unpacks to so many rows of bytes, each behind the number of a filter, and no byte more."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, row * height + 1)
    except zlib.error:
        return False
    if not stream.eof or len(raw) != row * height:
        return False
    return max(raw[::row], default=_LARGEST_FILTER + 1) <= _LARGEST_FILTER


_PACKED_TEXTS = (b"zTXt", b"iTXt", b"iCCP")
LONGEST_TEXT = 2**20  # bytes of a text or colour profile, unpacked; Pillow reads no longer ones
MOST_TEXTS = 2**24  # of all of them


def chunk_spans(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start (of its length) and end (of its checksum) of each chunk in the bytes, up to the end mark."""
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if end > len(data):
            return
        name = data[place + 4 : place + 8]
        yield name, place, end
        if name == b"IEND":
            return
        place = end


def without_long_texts(data: bytes) -> bytes:
    """A PNG without the texts and colour profiles that Pillow refuses the whole picture for; any other bytes, and a
    PNG that has none such, as they are.
    """
    if not data.startswith(_SIGNATURE) or not any(name in data for name in _PACKED_TEXTS):
        return data
    kept, place, total = [], 0, 0
    for name, start, end in chunk_spans(data):
        if name not in _PACKED_TEXTS:
            continue
        size = min(unpacked_size(name, data[start + 8 : end - 4]), LONGEST_TEXT + 1)
        if size > LONGEST_TEXT or total + size > MOST_TEXTS:
            kept.append(data[place:start])
            place = end
        else:
            total += size
    return b"".join([*kept, data[place:]]) if place else data


def unpacked_size(name: bytes, body: bytes) -> int:
    """How long a packed text is, where it is no longer than `LONGEST_TEXT`; 0 for one that can't be unpacked."""
    _, _, rest = body.partition(b"\0")  # behind its keyword, and how it is packed
    packed = rest[1:]
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        # behind two bytes its language and its translated keyword, each up to a zero
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return len(zlib.decompressobj().decompress(packed, LONGEST_TEXT + 1))
    except zlib.error:
        return 0
