"""Metadata are taken out of images, and the picture stays: pixels, orientation, colour profile, frames."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from data_tools.images import bare_bytes, check_image, data_url, decode_image, encode_png
from data_tools.metadata import without_metadata
from data_tools.schema import ImageRef

PLACE = (48.0, 8.0, 33.123456)  # degrees, minutes, seconds
MARKS = (b"GPS", b"Exif", b"xmp", b"Jane Doe", b"Nikon")


def photo(orientation: int = 1) -> Image.Exif:
    """EXIF data as a phone writes them: a camera, a name, a place."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Artist] = "Nikon", "Jane Doe"
    exif[ExifTags.Base.Orientation] = orientation
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", PLACE
    return exif


def quarters(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Image.Image:
    """Four colours, so that every turn of it is another picture."""
    image = Image.new(mode, size)
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 60)]
    for number, color in enumerate(colors):
        left, top = (number % 2) * size[0] // 2, (number // 2) * size[1] // 2
        image.paste(
            color + ((255,) if mode == "RGBA" else ()), (left, top, left + size[0] // 2, top + size[1] // 2)
        )
    return image


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


XMP = b"<x:xmpmeta xmlns:exif='e'><exif:GPSLatitude>48,8.5N</exif:GPSLatitude></x:xmpmeta>"


def with_all(kind: str, orientation: int) -> bytes:
    """A picture with EXIF data, XMP and a comment or text."""
    options: dict[str, Any] = {"exif": photo(orientation)}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
        info.add_text("Author", "Jane Doe")
        options["pnginfo"] = info
    else:
        options["xmp"] = XMP
    if kind == "JPEG":
        options |= {"comment": b"by Jane Doe", "quality": 95}
    return saved(quarters(), kind, **options)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_nothing_but_the_orientation_is_left(kind: str, orientation: int) -> None:
    data = with_all(kind, orientation)
    bare = bare_bytes(data)
    assert decode_image(bare).tobytes() == decode_image(data).tobytes()
    assert bare_bytes(bare) == bare
    with Image.open(io.BytesIO(bare)) as image:
        left = image.getexif()
        assert dict(left) == ({} if orientation == 1 else {ExifTags.Base.Orientation: orientation})
        assert not left.get_ifd(ExifTags.IFD.GPSInfo)
        assert not {"xmp", "comment", "Author", "XML:com.adobe.xmp", "photoshop"} & set(image.info)
    assert not [mark for mark in MARKS if mark in bare.replace(b"Exif\0\0II*", b"").replace(b"eXIf", b"")]


def test_images_without_any_are_the_same_bytes() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(quarters(), kind)
        assert bare_bytes(data) is data
    assert bare_bytes(b"anything") == b"anything"


def test_what_is_shown_stays() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("PNG", "JPEG", "WEBP"):
        data = saved(quarters(), kind, icc_profile=profile, exif=photo())
        with Image.open(io.BytesIO(bare_bytes(data))) as image:
            assert image.info["icc_profile"] == profile
    clear = quarters(mode="RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 0))
    for kind in ("PNG", "WEBP"):
        data = saved(clear, kind, exif=photo(6), **({"lossless": True} if kind == "WEBP" else {}))
        with Image.open(io.BytesIO(bare_bytes(data))) as image:
            assert image.convert("RGBA").getpixel((3, 3))[3] == 0  # type: ignore[index]
    palette = quarters().convert("P")
    assert (
        decode_image(bare_bytes(saved(palette, "PNG", transparency=0, exif=photo()))).tobytes()
        == decode_image(saved(palette, "PNG", transparency=0)).tobytes()
    )
    cmyk = saved(quarters().convert("CMYK"), "JPEG", exif=photo())
    assert decode_image(bare_bytes(cmyk)).tobytes() == decode_image(cmyk).tobytes()
    frames = [quarters(), quarters().transpose(Image.Transpose.ROTATE_180)]
    for kind in ("PNG", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], exif=photo())
        with Image.open(io.BytesIO(bare_bytes(data))) as image:
            assert image.n_frames == 2


def test_what_lies_behind_the_picture_goes_too() -> None:
    """Phones put a film, or a second picture, behind it, with a place of its own."""
    for kind in ("PNG", "JPEG", "WEBP"):
        plain = saved(quarters(), kind)
        assert bare_bytes(plain + b"MotionPhoto_Data GPS 48.14") == plain
    several = saved(quarters(), "MPO", save_all=True, append_images=[quarters()], exif=photo())
    bare = bare_bytes(several)
    assert b"Nikon" not in bare
    assert decode_image(bare).tobytes() == decode_image(several).tobytes()
    assert check_image(bare).notes == ()


def test_progressive_and_cut_off_ends() -> None:
    data = saved(quarters(), "JPEG", progressive=True, exif=photo(3))
    assert decode_image(bare_bytes(data)).tobytes() == decode_image(data).tobytes()
    endless = saved(quarters(), "JPEG", exif=photo()).removesuffix(b"\xff\xd9")
    assert b"Nikon" not in bare_bytes(endless)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


BROKEN = [b"", b"II*\0", b"no EXIF data", b"MM\0*\0\0\0\x08\xff\xff" + bytes(40), b"II*\0\xff\xff\xff\xff"]


@pytest.mark.parametrize("exif", BROKEN)
def test_broken_exif_goes(exif: bytes) -> None:
    plain = saved(quarters(), "PNG")
    assert bare_bytes(plain[:33] + _chunk(b"eXIf", exif) + plain[33:]) == plain
    jpeg = saved(quarters(), "JPEG")
    body = b"Exif\0\0" + exif
    assert bare_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + jpeg[2:]) == jpeg
    webp = saved(quarters(), "WEBP", exif=b"Exif\0\0" + (exif or b"x"))
    with Image.open(io.BytesIO(bare_bytes(webp))) as image:
        assert dict(image.getexif()) == {}


def test_pages_hold_no_metadata() -> None:
    import base64

    for kind in ("PNG", "JPEG", "WEBP"):
        _, _, coded = data_url(ImageRef.of_bytes(with_all(kind, 1))).partition(",")
        assert not [mark for mark in MARKS if mark in base64.b64decode(coded)]


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("first", [True, False])
def test_long_texts_of_a_png(name: bytes, first: bool) -> None:
    """Other readers refuse the whole picture for them, before or behind the pixels; ours are whole."""
    lead = {b"zTXt": b"parameters\0\0", b"iTXt": b"XML:com.adobe.xmp\0\1\0en\0\0", b"iCCP": b"p\0\0"}[name]
    plain = encode_png(quarters())
    text = _chunk(name, lead + zlib.compress(b"steps: 20, " * 200_000))
    data = plain[:33] + text + plain[33:] if first else plain[:-12] + text + plain[-12:]
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(data)).load()
    assert decode_image(data).tobytes() == quarters().tobytes()
    assert (check_image(data).width, check_image(data).height) == (64, 48)
    assert bare_bytes(data) == plain


def test_many_texts_of_a_png() -> None:
    """Each is short enough, and together they are over what Pillow reads."""
    text = _chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**20)))
    plain = encode_png(quarters())
    data = plain[:33] + text * 70 + plain[33:]
    with pytest.raises(ValueError, match="Too much memory"):
        Image.open(io.BytesIO(data))
    assert decode_image(data).tobytes() == quarters().tobytes()


SEEDS = [with_all(kind, 6) for kind in ("PNG", "JPEG", "WEBP")]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 10**6), st.binary(min_size=1, max_size=6), st.booleans())
def test_anything_damaged(seed: bytes, place: int, change: bytes, cut: bool) -> None:
    place %= len(seed)
    data = seed[:place] + change + (b"" if cut else seed[place + len(change) :])
    bare = without_metadata(data, lambda: 6)
    assert isinstance(bare, bytes)
    assert len(bare) <= len(data) + 64
