"""What phones give: photos of 48 megapixels and more, HEIC and AVIF; and pictures of odd shapes."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
from PIL import Image, ImageCms, features

from data_tools import phone_images
from data_tools.image_kinds import is_known, name_other, phone_format
from data_tools.image_limits import ImageLimits, image_limits
from data_tools.images import (
    ImageError,
    check_image,
    decode_image,
    decoded_size,
    image_size,
    stored_bytes,
)
from data_tools.resize import ImageSettings, resized

AVIF = features.check("avif") if "avif" in features.modules else False
SMALL = ImageLimits(max_pixels=1200, max_photo_pixels=64 * 1200)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(size: tuple[int, int]) -> Image.Image:
    """Red to the left, blue to the right."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return image


def is_red_left(image: Image.Image) -> bool:
    left, right = (image.getpixel((x, image.height // 2)) for x in (2, image.width - 3))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    return left[0] > 200 > 60 > left[2] and right[2] > 200 > 60 > right[0]


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((40, 30), (40, 30)),  # 1,200 pixels: none too many
        ((48, 32), (24, 16)),
        ((80, 60), (40, 30)),
        ((82, 60), (21, 15)),  # half of it is 1,230
        ((300, 200), (38, 25)),
    ],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_large_jpegs_are_decoded_at_a_part_of_their_size(size, decoded, progressive: bool) -> None:
    data = saved(halves(size), "JPEG", quality=95, progressive=progressive)
    image = decode_image(data, SMALL)
    assert image.size == decoded
    assert is_red_left(image)
    checked = check_image(data, SMALL)
    assert (checked.width, checked.height) == decoded
    turned = saved(
        halves(size), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)
    )
    assert decode_image(turned, SMALL).size == decoded[::-1]
    checked = check_image(turned, SMALL)
    assert (checked.width, checked.height) == decoded[::-1]


def test_what_is_too_large_even_so() -> None:
    for kind, size in (("JPEG", (300, 300)), ("PNG", (41, 30)), ("WEBP", (41, 30)), ("GIF", (41, 30))):
        for look in (decode_image, check_image):
            with pytest.raises(ImageError, match="more than the limit of") as error:
                look(saved(halves(size), kind), SMALL)
            assert error.value.code == "image-size"
            assert str(size[0]) not in error.value.reason  # equal faults are counted as one


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((1, 201), "longer than 200 times"),
        ((9000, 44), "longer than 200 times"),
        ((66_000, 400), "more than 65,535 on a side"),
    ],
)
def test_odd_shapes_are_refused(size: tuple[int, int], words: str) -> None:
    data = saved(Image.new("1", size), "PNG")
    for look in (decode_image, check_image):
        with pytest.raises(ImageError, match=words):
            look(data)
    fine = saved(Image.new("1", (1, 200)), "PNG")
    assert decode_image(fine).size == (1, 200)


def test_a_photo_of_108_megapixels() -> None:
    """Pillow's own limit, a warning from 89 million pixels on, doesn't hold it up."""
    data = saved(Image.new("L", (12_000, 9000), 90), "JPEG", quality=30)
    assert decode_image(data).size == (6000, 4500)
    checked = check_image(data)
    note = "larger than 40,000,000 pixels: used at a smaller size"
    assert (checked.width, checked.height, checked.notes) == (6000, 4500, (note,))
    assert image_size(data) == (12_000, 9000)


def test_large_images_fit_every_reader_once_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ImageLimits(max_pixels=1200)
    monkeypatch.setattr("data_tools.resize.STANDARD", small)
    monkeypatch.setattr("data_tools.images.STANDARD", small)
    monkeypatch.setattr("data_tools.image_limits.STANDARD", small)
    asked = ImageSettings(max_pixels=10_000)
    with image_limits(asked.limits):
        for kind in ("PNG", "JPEG", "WEBP"):
            stored = decode_image(resized(saved(halves((90, 60)), kind), asked))
            assert stored.size == (42, 28)  # 1.5 to 1, at most 1,200 pixels
            assert is_red_left(stored)
        assert decode_image(resized(saved(halves((90, 60)), "PNG"), ImageSettings(max_side=30))).size == (
            30,
            20,
        )
        with pytest.raises(ImageError, match="more than the limit of 10,000"):
            decode_image(saved(halves((101, 100)), "PNG"))


def test_settings_become_limits() -> None:
    limits = ImageSettings(max_pixels=100, max_bytes=50).limits
    assert (limits.max_pixels, limits.max_bytes, limits.max_photo_pixels) == (100, 50, 256_000_000)


def test_avif_is_read_where_pillow_can() -> None:
    if not AVIF:
        pytest.skip("this Pillow has no AVIF")
    data = saved(halves((64, 48)), "AVIF", quality=95)
    assert phone_format(data) == "AVIF"
    assert is_red_left(decode_image(data))
    checked = check_image(data)
    assert (checked.extension, checked.width, checked.height) == (None, 64, 48)
    stored = stored_bytes(data)
    assert stored.startswith(b"\xff\xd8\xff")
    assert is_red_left(decode_image(stored))
    for end in (20, 100, len(data) - 40):
        with pytest.raises(ImageError):
            decode_image(data[:end])


def test_avif_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_images, "reads_avif", lambda: False)
    with pytest.raises(ImageError, match=r"an AVIF image: reading it needs Pillow 11\.3") as error:
        decode_image(b"\0\0\0\x1cftypavif" + bytes(40))
    assert error.value.code == "image-format"


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_heic_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    phone_images.reads_heic.cache_clear()
    for look in (decode_image, check_image):
        with pytest.raises(ImageError, match=r"a HEIC image: .*pip install 'mmrlhf\[heic\]'"):
            look(HEIC)
    assert image_size(HEIC) is None
    phone_images.reads_heic.cache_clear()


def test_heic_is_read_by_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in here: one that opens as Pillow's plugins do."""
    registered = []

    def register(**options: Any) -> None:
        registered.append(options)

    stand_in = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", stand_in)
    phone_images.reads_heic.cache_clear()
    asked: list[Any] = []

    def open_image(file: Any, formats: Any) -> Image.Image:
        asked.append(formats)
        image = halves((64, 48))
        image.format = "HEIF"
        return image

    monkeypatch.setattr("data_tools.images.Image.open", open_image)
    assert is_red_left(decode_image(HEIC))
    decode_image(HEIC)
    assert asked == [("HEIF",)] * 2
    assert registered == [{"thumbnails": False}]
    phone_images.reads_heic.cache_clear()


def test_real_heic() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    phone_images.reads_heic.cache_clear()
    buffer = io.BytesIO()
    pillow_heif.from_pillow(halves((64, 48))).save(buffer, quality=95)
    data = buffer.getvalue()
    assert phone_format(data) == "HEIC"
    assert is_red_left(decode_image(data))
    assert is_red_left(decode_image(stored_bytes(data)))
    for end in (30, 200, len(data) - 40):
        with pytest.raises(ImageError):
            decode_image(data[:end])


@pytest.mark.parametrize(
    ("begin", "words"),
    [
        (b"II*\0", "a TIFF or raw camera image"),
        (b"\0\0\0\x0cJXL \r\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 image"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"<?xml version='1.0'?>\n<svg ", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "a web page, not the image itself"),
        (b'{"error": "no such key"}', "text (a server's message, perhaps)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "text (a server's message, perhaps)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "only a Git LFS pointer"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video"),
        (b"\x1aE\xdf\xa3", "a video"),
    ],
)
def test_what_is_no_image_is_named(begin: bytes, words: str) -> None:
    data = begin + bytes(64)
    assert not is_known(data)
    assert name_other(data) is not None
    with pytest.raises(ImageError) as error:
        decode_image(data)
    assert words in str(error.value)
    assert error.value.code == "image-format"


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
def test_the_colour_profile_of_a_phones_image_stays() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = stored_bytes(saved(halves((90, 60)), "AVIF", icc_profile=profile))
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.info["icc_profile"]) == ("JPEG", profile)


@pytest.mark.parametrize(
    ("kind", "size", "decoded"),
    [
        ("JPEG", (40, 30), (40, 30)),  # 1200 pixels
        ("JPEG", (41, 30), (21, 15)),
        ("JPEG", (160, 120), (40, 30)),
        ("JPEG", (320, 240), (40, 30)),
        ("PNG", (41, 30), (41, 30)),  # refused once it is decoded
    ],
)
def test_the_size_after_decoding_is_told_by_the_header(
    kind: str, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    data = saved(halves(size), kind)
    assert decoded_size(data, SMALL) == decoded
    if kind == "JPEG":
        assert decode_image(data, SMALL).size == decoded


def test_no_size_is_told_of_what_is_no_image() -> None:
    assert decoded_size(b"words") is None
