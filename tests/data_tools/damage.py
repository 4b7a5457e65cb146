"""Damage for the tests that feed bad input: to rows, to images and to the bytes of files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from hypothesis import strategies as st
from PIL import Image

PLACE = st.floats(0, 1)  # in the bytes, from their beginning to their end
STRIKE = st.one_of(
    st.tuples(st.just("cut"), PLACE),
    st.tuples(st.just("set"), PLACE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("out"), PLACE, st.integers(1, 700)),
    st.tuples(st.just("splice"), PLACE, PLACE, st.integers(1, 2000)),
)
STRIKES = st.lists(STRIKE, min_size=1, max_size=4)


def struck(data: bytes, strikes: list[Any]) -> bytes:
    """The bytes with pieces cut off, replaced, taken out and doubled."""
    for what, place, *more in strikes:
        at = int(place * len(data))
        if what == "cut":
            data = data[:at]
        elif what == "set":
            data = data[:at] + more[0] + data[at + len(more[0]) :]
        elif what == "out":
            data = data[:at] + data[at + more[0] :]
        else:
            start = int(more[0] * len(data))
            data = data[:at] + data[start : start + more[1]] + data[at:]
    return data


def deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(2**63), deep(30), deep(400)])
    | st.sampled_from(
        ["", " \n", "N/A", "4", "4.5", "five", "\ud800", "\0", "a\x1b[2Jb", "<image>", "<image><image>"]
    )
    | st.sampled_from(["../x", "/etc/passwd", "http://x.org/a.png", "images/red.png", "red.png", "x" * 300])
    | st.sampled_from(["data:image/png;base64,AAAA", "Rating: 2\n\nRating: 5", "é" * 2000])
)
KEYS = st.sampled_from(
    ["Rating", "role", "content", "response", "annotations", "bytes", "path", "\ud800", ""]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def damaged(draw: st.DrawFn, value: Any) -> Any:
    """The value with something below it, drawn at random, taken out, added or replaced."""
    if isinstance(value, dict) and value:
        what, key = draw(st.integers(0, 5)), draw(st.sampled_from(sorted(value)))
        if what == 0:
            return {name: item for name, item in value.items() if name != key}
        if what == 1:
            return {**value, draw(KEYS): draw(VALUES)}
        return {**value, key: damaged(draw, value[key])}
    if isinstance(value, list) and value and draw(st.booleans()):
        place = draw(st.integers(0, len(value) - 1))
        return [*value[:place], damaged(draw, value[place]), *value[place + 1 :]]
    return draw(VALUES)


LINES = (  # no row, each in its own way
    b"{not json",
    b"null",
    b'"text"',
    b"[1, 2]",
    b'{"a": NaN}',
    b"\xff\xfe{}",
    b'{"id": 1' + b"0" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 990 + b"1" + b"}" * 990,
    b'{"prompt": "a", "chosen": "b\x00", "rejected": "c"}',
    b"{}",
    b'{"prompt": "a", "chosen": "b", "rejected": "c"} {}',
)


def _encoded(form: str, size: tuple[int, int] = (5, 4), mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    bands = len(Image.new(mode, (1, 1)).getbands())
    Image.new(mode, size, 90 if bands == 1 else (90,) * bands).save(buffer, form, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header tells of so many pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(5000))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


PICTURES = {
    "png": _encoded("PNG"),
    "jpg": _encoded("JPEG", (40, 30)),
    "cmyk": _encoded("JPEG", mode="CMYK"),
    "webp": _encoded("WEBP"),
    "gif": _encoded("GIF"),
    "bmp": _encoded("BMP"),
    "palette": _encoded("PNG", mode="P"),
    "alpha": _encoded("PNG", mode="RGBA"),
    "grey16": _encoded("PNG", mode="I;16"),
    "frames": _encoded("GIF", save_all=True, append_images=[Image.new("RGB", (5, 4), (1, 2, 3))]),
}
NO_PICTURES = (
    b"",
    b"text",
    b"<svg/>",
    _encoded("TIFF"),
    bomb(20_000, 20_000),
    bomb(0, 5),
    bomb(2**31 - 1, 2**31 - 1),
    bomb(100, 100),
    b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 20,
    b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02;",
    b"BM" + b"\xff" * 60,
    b"\x80\x04\x95.",
)


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """Image bytes, whole ones, damaged ones and none at all."""
    whole = draw(st.sampled_from(sorted(PICTURES)))
    what = draw(st.integers(0, 3))
    if what == 0:
        return PICTURES[whole]
    if what == 1:
        return draw(st.sampled_from(NO_PICTURES))
    return struck(PICTURES[whole], draw(STRIKES))
