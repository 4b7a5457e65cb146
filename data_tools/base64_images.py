"""Images that rows hold as base64 text: bare, in lines, or as a data address."""

from __future__ import annotations

import base64
import binascii
import re

from data_tools.image_limits import ImageError

_DATA = re.compile(
    r"data:image/[a-z0-9+.-]+(?:;[^;,\s]*)*?;base64,", re.IGNORECASE
)  # parameters mean nothing here
_SPACE = re.compile(r"\s+")
# how files of the known formats begin, in base64: bare text that begins so is an image, any other is a path
_MAGIC = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk")
_SHORTEST = 64  # characters of base64: no image is smaller, and a path that begins with /9j/ may be


def is_data_address(text: str) -> bool:
    """Whether a text begins as a data address does, which holds what it names."""
    return text.lstrip()[:5].lower() == "data:"


def bytes_of(value: object) -> bytes | None:
    """The encoded image that a row's field holds: bytes, base64 text, or either under `bytes`; None where it holds no
    image itself but at most a path.

    Raises:
        ImageError: what can only be base64, a data address or a text under `bytes`, is damaged.
    """
    named = isinstance(value, dict)
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    address = _DATA.match(text)
    certain = named or address is not None
    if not certain and (not text.startswith(_MAGIC) or len(text) < _SHORTEST):
        return None
    coded = _SPACE.sub("", text[address.end() if address else 0 :])  # some write it in lines
    try:
        return base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError) as error:
        if certain:
            raise ImageError("an image's base64 is damaged") from error
        return None


def path_of(value: object) -> str | None:
    """The path that a row names its image by, beside the bytes or in their place; None where there is none."""
    if isinstance(value, dict):
        value = value.get("path")
    try:
        held = bytes_of(value)
    except ImageError:
        return None
    return value if isinstance(value, str) and value and held is None else None
