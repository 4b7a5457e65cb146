"""Images that rows hold as base64 text: bare, in lines, or as a data address."""

from __future__ import annotations

import base64
import binascii
import re

from data_tools.image_limits import ImageError

_DATA = re.compile(
    r"data:[^;,\s]*(?:;[^;,\s]*)*?;base64,", re.IGNORECASE
)  # what it is said to hold means nothing here: many write application/octet-stream
_SPACE = re.compile(r"\s+")
# how images begin, in base64: bare text that begins so is an image, any other is a path
_BEGINS = re.compile(
    r"iVBORw0KGgo|[/_]9j[/_]|UklGR|R0lGOD|Qk.{6}AAAA"  # PNG, JPEG, WebP, GIF, BMP
    r"|AAAA..Z0eXB"  # the files of AVIF and HEIC, and of videos
    r"|SU[kl][qr]A|TU0A[KL]|AAAADEpYTCAN|AAAADGpQICAN"  # TIFF, JPEG XL, JPEG 2000
)
_SHORTEST = 64  # characters of base64: no image is smaller, and a path that begins with /9j/ may be
_URL_SAFE = str.maketrans("-_", "+/")


def is_data_address(text: str) -> bool:
    """Whether a text begins as a data address does, which holds what it names."""
    return text.lstrip()[:5].lower() == "data:"


def bytes_of(value: object) -> bytes | None:
    """The encoded image that a row's field holds: bytes, base64 text, or either under `bytes`; None where it holds no
    image itself but at most a path.

    Base64 is read in both alphabets (`+/` and `-_`), with or without the padding at its end.

    Raises:
        ImageError: what can only be base64, a data address or a text under `bytes`, is damaged.
    """
    named = isinstance(value, dict)
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    address = _DATA.match(text)
    certain = named or address is not None
    if not certain and (len(text) < _SHORTEST or not _BEGINS.match(text)):
        return None
    data = _decoded(_SPACE.sub("", text[address.end() if address else 0 :]))  # some write it in lines
    if data is None and certain:
        raise ImageError("an image's base64 is damaged")
    return data


def first_bytes(text: str) -> bytes:
    """How the file begins that a text holds as base64, bare or in a data address; empty where it holds none."""
    text = text.lstrip()
    place = 0
    if is_data_address(text):
        address = _DATA.match(text)
        if address is None:
            return b""
        place = address.end()
    elif len(text) < _SHORTEST or not _BEGINS.match(text):
        return b""
    start = _SPACE.sub("", text[place : place + _SHORTEST])
    return _decoded(start[: len(start) // 4 * 4]) or b""


def path_of(value: object) -> str | None:
    """The path that a row names its image by, beside the bytes or in their place; None where there is none."""
    if isinstance(value, dict):
        value = value.get("path")
    try:
        held = bytes_of(value)
    except ImageError:
        return None
    return value if isinstance(value, str) and value and held is None else None


def _decoded(coded: str) -> bytes | None:
    """The bytes; None where the text isn't base64, for example because it mixes the two alphabets."""
    if "-" in coded or "_" in coded:
        if "+" in coded or "/" in coded:
            return None
        coded = coded.translate(_URL_SAFE)
    try:
        return base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
