from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from sample_records import pixel, png

from data_tools.images import (
    ImageError,
    ImageLimits,
    _complete,
    decode_image,
    encode_png,
    extension,
    read_image,
)
from data_tools.schema import ImageRef


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def noise(size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def test_colors_of_plain_formats() -> None:
    image = Image.new("RGB", (5, 4), (10, 200, 30))
    for kind in ("PNG", "BMP", "GIF"):
        assert decode_image(encoded(image, kind)).getpixel((2, 2)) == (10, 200, 30)
    for kind in ("JPEG", "WEBP"):
        found = pixel(decode_image(encoded(image, kind, quality=95)), 2, 2)
        assert all(abs(a - b) < 8 for a, b in zip(found, (10, 200, 30), strict=True))


def test_alpha_is_laid_on_white() -> None:
    half = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    half.putpixel((1, 1), (255, 0, 0, 255))
    image = decode_image(encoded(half, "PNG"))
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((1, 1)) == (255, 0, 0)


def test_transparent_palette_color_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([9, 9, 9, 0, 0, 250])
    image.putpixel((1, 0), 1)
    decoded = decode_image(encoded(image, "PNG", transparency=0))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 250)]


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    image = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 32896, 65535)):  # 32896 = 128 x 257
        image.putpixel((x, 0), value)
    decoded = decode_image(encoded(image, "PNG"))
    assert [decoded.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


def test_cmyk_jpeg() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red, green, blue = pixel(decode_image(encoded(image, "JPEG", quality=95)), 4, 4)
    assert red > 240
    assert green < 15
    assert blue < 15


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (6, 2), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (2, 6)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ((255, 0, 0), (0, 0, 255))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((1, 1)) == (255, 0, 0)


def test_a_phone_picture_of_several_frames_is_a_jpeg() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 0, 250))]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
    red, green, blue = pixel(decode_image(data), 4, 4)
    assert (red > 240, green < 10, blue < 10) == (True, True, True)
    assert extension(data) == "jpg"
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 4])


def test_a_format_without_a_rule_is_refused() -> None:
    with pytest.raises(ImageError, match="is a TIFF file, which is none of PNG, JPEG, WEBP, GIF, BMP"):
        _complete(b"II*\0", "TIFF")


def test_a_pixel_bomb_is_refused_by_its_header() -> None:
    # 20,000 x 20,000 grey pixels in under 400 KB; decoding it would take 400 MB
    rows = zlib.compress(bytes(20001) * 100)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match=r"too large|more than the limit"):
        decode_image(bomb)
    small = encoded(Image.new("L", (300, 300)), "PNG")
    with pytest.raises(ImageError, match="300 x 300 pixels, more than the limit of 80,000"):
        decode_image(small, ImageLimits(max_pixels=80_000))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 60}])
def test_a_webp_bomb_is_refused_by_its_header(options: dict[str, object]) -> None:
    data = encoded(Image.new("RGB", (500, 400)), "WEBP", **options)
    with pytest.raises(ImageError, match="500 x 400 pixels"):
        decode_image(data, ImageLimits(max_pixels=1000))
    extended = encoded(
        Image.new("RGBA", (500, 400), (0, 0, 0, 9)), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"
    )
    with pytest.raises(ImageError, match="500 x 400 pixels"):
        decode_image(extended, ImageLimits(max_pixels=1000))


def test_too_many_bytes_and_none() -> None:
    with pytest.raises(ImageError, match="more than the limit of 10"):
        decode_image(png(), ImageLimits(max_bytes=10))
    with pytest.raises(ImageError, match="empty"):
        decode_image(b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lenient", [False, True])
def test_truncated_images_are_refused(
    kind: str, share: float, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)  # some libraries set it for all
    data = encoded(noise(), kind)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)])


def test_other_formats_are_refused() -> None:
    for kind in ("TIFF", "PPM", "ICO"):
        with pytest.raises(ImageError, match="not a readable"):
            decode_image(encoded(noise(), kind))
    with pytest.raises(ImageError, match="not a readable"):
        decode_image(b"<svg xmlns='http://www.w3.org/2000/svg'/>")


@pytest.mark.parametrize(
    "name",
    [
        "http://x.org/a.png",
        "HTTPS://x.org/a.png",
        "file:///etc/passwd",
        "s3://b/a",
        "data:image/png;base64,AA",
    ],
)
def test_no_url_is_fetched(name: str) -> None:
    with pytest.raises(ImageError, match="is a URL"):
        read_image(ImageRef(path=name))


def test_paths_stay_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    (root / "a.png").write_bytes(png((1, 2, 3)))
    assert read_image(ImageRef(path="a.png"), root).getpixel((0, 0)) == (1, 2, 3)
    for name in ("../secret.png", str(tmp_path / "secret.png"), "x/../../secret.png"):
        with pytest.raises(ImageError, match="leaves the image folder"):
            read_image(ImageRef(path=name), root)
    with pytest.raises(ImageError):
        read_image(ImageRef(path="a\0b.png"), root)
    with pytest.raises(ImageError, match="no such image file"):
        read_image(ImageRef(path="b.png"), root)
    with pytest.raises(ImageError, match="another sha256"):
        read_image(ImageRef(path="a.png", sha256="0" * 64), root)


def test_encode_png_is_exact_and_bare() -> None:
    image = noise((9, 7))
    image.info["comment"] = "secret"
    data = encode_png(image)
    assert extension(data) == "png"
    assert b"secret" not in data
    assert decode_image(data).tobytes() == image.tobytes()
    assert encode_png(image) == data


SEEDS = [encoded(noise((16, 16)), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]


@given(st.binary(max_size=200) | st.sampled_from(SEEDS), st.data())
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_image_or_an_image_error(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        if damaged:
            damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(damaged), ImageLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert image.mode == "RGB"
