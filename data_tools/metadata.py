"""What a PNG, JPEG or WebP says beside its picture, taken out without touching the picture itself.

EXIF data tell where a photo was taken, by which camera and when; XMP, IPTC and texts may tell the same, and more. What
decides how the picture looks stays: its colour profile, transparency, frames, and, in EXIF data of nothing else, its
orientation.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from data_tools.image_kinds import extension
from data_tools.jpeg import segments
from data_tools.png import LONGEST_TEXT, chunk_spans, unpacked_size

# of PNG, beside the chunks whose names begin with a capital, without which it can't be shown
_SHOWN = (
    *(b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"cICP", b"mDCV", b"cLLI", b"hIST"),
    *(b"acTL", b"fcTL", b"fdAT"),
)
_WEBP_SHOWN = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP")
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags of VP8X
_JFIF, _ICC, _ADOBE = (0xE0, b"JFIF\0"), (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe")
_APPLICATION, _COMMENT, _SCAN = range(0xE0, 0xF0), 0xFE, 0xDA


def without_metadata(data: bytes, orientation: Callable[[], int]) -> bytes:
    """The image without metadata but `orientation`, which is only asked for where it has any; the same bytes where it
    has none, or isn't a PNG, JPEG or WebP that can be taken apart.
    """
    kind = extension(data)
    bare = {"png": _bare_png, "jpg": _bare_jpeg, "webp": _bare_webp}.get(kind or "", lambda data: data)(data)
    if bare == data:
        return data  # the very object, of which a hash may be known
    turn = orientation()
    if turn not in range(2, 9):
        return bare
    turned = {"png": _turned_png, "jpg": _turned_jpeg, "webp": _turned_webp}[kind or ""](bare, _exif(turn))
    return data if turned == data else turned


def _exif(orientation: int) -> bytes:
    """EXIF data of one field, a short: the TIFF header, and its first directory."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + orientation.to_bytes(4, "little")
    return b"II*\0\x08\0\0\0" + b"\x01\0" + entry + bytes(4)


def _bare_png(data: bytes) -> bytes:
    kept = [data[:8]]
    name = b""
    for name, start, end in chunk_spans(data):
        shown = name[:1].isupper() or name in _SHOWN
        if name == b"iCCP":
            shown = unpacked_size(name, data[start + 8 : end - 4]) <= LONGEST_TEXT
        if shown:
            kept.append(data[start:end])
    return b"".join(kept) if name == b"IEND" else data


def _turned_png(data: bytes, exif: bytes) -> bytes:
    body = b"eXIf" + exif
    chunk = len(exif).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    behind_header = 8 + 25
    return data[:behind_header] + chunk + data[behind_header:]


def _bare_jpeg(data: bytes) -> bytes:
    kept, place, last, scanned = list[bytes](), 0, 0, False
    for marker, start, end in segments(data):
        begin = data[start + 2 : start + 14]  # behind the length
        shown = any(marker == known and begin.startswith(name) for known, name in (_JFIF, _ICC, _ADOBE))
        if marker in (*_APPLICATION, _COMMENT) and not shown:
            kept.append(data[place : start - 2])
            place = end
        scanned, last = scanned or marker == _SCAN, end
    if not scanned:
        return data
    # behind the end phones put more pictures, and films
    stop = last + 2 if data[last : last + 2] == b"\xff\xd9" else len(data)
    return b"".join([*kept, data[place:stop]])


def _turned_jpeg(data: bytes, exif: bytes) -> bytes:
    body = b"Exif\0\0" + exif
    segment = b"\xff\xe1" + (2 + len(body)).to_bytes(2, "big") + body
    place = 2
    if data[2:4] == b"\xff\xe0":  # JFIF comes first
        place += 2 + int.from_bytes(data[4:6], "big")
    return data[:place] + segment + data[place:]


def _bare_webp(data: bytes) -> bytes:
    kept, place = [], 12
    stop = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while place + 8 <= stop:
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + size
        if end > len(data):
            return data
        if name in _WEBP_SHOWN:
            chunk = data[place:end] + bytes(size % 2)
            if name == b"VP8X":
                chunk = chunk[:8] + bytes([chunk[8] & ~(_WEBP_EXIF | _WEBP_XMP)]) + chunk[9:]
            kept.append(chunk)
        place = end + size % 2
    return _riff(b"".join(kept))


def _turned_webp(data: bytes, exif: bytes) -> bytes:
    if data[12:16] != b"VP8X":  # only its extended form has EXIF data
        return data
    chunk = b"EXIF" + len(exif).to_bytes(4, "little") + exif
    return _riff(data[12:20] + bytes([data[20] | _WEBP_EXIF]) + data[21:] + chunk)


def _riff(body: bytes) -> bytes:
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
