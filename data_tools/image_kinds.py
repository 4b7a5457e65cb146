"""What a file is, by its first bytes: an image that is read, one that isn't, or none at all."""

from __future__ import annotations

import re
from typing import Literal

# of the names of image files, without the dot: those that are read, and those that are named for what they are
IMAGE_ENDINGS = (
    *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp"),
    *("avif", "heic", "heif"),
    *("tif", "tiff", "jp2", "jxl"),
)
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_SAVE = "save it as PNG or JPEG"
_OTHERS = (
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), f"a TIFF or raw camera image, which isn't read; {_SAVE}"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), f"a JPEG XL image, which isn't read; {_SAVE}"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), f"a JPEG 2000 image, which isn't read; {_SAVE}"),
    (re.compile(rb"8BPS"), f"a Photoshop file, which isn't read; {_SAVE}"),
    (re.compile(rb"\0\0\x01\0"), f"an icon file, which isn't read; {_SAVE}"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg\b", re.DOTALL), f"an SVG drawing; {_SAVE}"),
    (re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE), "a web page, not the image itself"),
    (re.compile(rb"\s*<\?xml|\s*\{\s*\""), "text (a server's message, perhaps), not the image itself"),
    (re.compile(rb"%PDF"), "a PDF document, not an image"),
    (re.compile(rb"version https://git-lfs"), "only a Git LFS pointer; fetch the file itself (git lfs pull)"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3", re.DOTALL), "a video, not an image"),
)


def extension(data: bytes) -> str | None:
    """`png`, `jpg` or `webp` by the first bytes, the formats a shard holds; None for any other."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def phone_format(data: bytes) -> Literal["AVIF", "HEIC"] | None:
    """`AVIF` or `HEIC` by the brands that an ISO media file begins with; None for any other file."""
    if data[4:8] != b"ftyp":
        return None
    brands = (
        data[8:12],
        *(data[at : at + 4] for at in range(16, min(int.from_bytes(data[:4], "big"), 64), 4)),
    )
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    return "HEIC" if any(brand in _HEIC for brand in brands) else None


def is_known(data: bytes) -> bool:
    """Whether the bytes begin as an image of a format that is read."""
    known = extension(data) is not None or data[:4] == b"GIF8" or data[:2] == b"BM"
    return known or phone_format(data) is not None


def name_other(data: bytes) -> str | None:
    """What bytes are that begin as no format that is read, with what to do; None where that isn't known."""
    begin = data[:512]
    return next((what for pattern, what in _OTHERS if pattern.match(begin)), None)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header; None where the bytes are no WebP or the header is cut short."""
    if extension(data) != "webp" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
