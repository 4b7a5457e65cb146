from __future__ import annotations

import io
import pickle
import resource
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from sample_records import pixel, png

from data_tools.images import (
    ANIMATED,
    SEVERAL,
    Checked,
    ImageError,
    ImageLimits,
    _strict,
    check_image,
    decode_image,
    encode_png,
    extension,
    read_image,
)
from data_tools.png import surely_whole
from data_tools.schema import ImageRef
from data_tools.source import CODES


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


LIMITS = ImageLimits()


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> str:
    """The code with which both the decoder and the check refuse; empty where both accept."""
    codes = []
    for look in (decode_image, check_image):
        try:
            look(data, limits)
            codes.append("")
        except ImageError as error:
            codes.append(error.code)
    assert codes[0] == codes[1]
    return codes[0]


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


def test_ycck_jpeg() -> None:
    # Pillow stores CMYK inverted, as Photoshop does: here 200, 128, 128, 255. With the Adobe mark that says YCCK these
    # are Y, Cb, Cr and K: a grey of 200, whose inks, 255 - 200 each, are inverted again.
    stored = encoded(Image.new("CMYK", (8, 8), (55, 127, 127, 0)), "JPEG", quality=100)
    place = stored.index(b"Adobe") + 11
    assert stored[place] == 0
    ycck = stored[:place] + b"\2" + stored[place + 1 :]
    assert all(abs(value - 55) < 4 for value in pixel(decode_image(ycck), 4, 4))


def test_grey_and_one_bit() -> None:
    assert decode_image(encoded(Image.new("L", (2, 2), 77), "PNG")).getpixel((1, 1)) == (77, 77, 77)
    bits = Image.new("1", (3, 1), 0)
    bits.putpixel((2, 0), 1)
    decoded = decode_image(encoded(bits, "PNG"))
    assert [decoded.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (0, 0, 0), (255, 255, 255)]


def test_half_transparent_grey_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 1), (0, 0))
    image.putpixel((1, 0), (100, 128))
    decoded = decode_image(encoded(image, "PNG"))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    # 100 x 128/255 + 255 x 127/255 = 177.2
    assert decoded.getpixel((1, 0)) == (177, 177, 177)


def raw_png(depth: int, kind: int, row: bytes, extra: bytes = b"") -> bytes:
    """A PNG of one row of two pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + extra + body + chunk(b"IEND", b"")


def test_sixteen_bit_color_and_alpha() -> None:
    colors = decode_image(raw_png(16, 2, struct.pack(">6H", 65535, 0, 0x8080, 0x0A0A, 0x1414, 0x1E1E)))
    assert [colors.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 128), (10, 20, 30)]
    alpha = decode_image(raw_png(16, 6, struct.pack(">8H", 9, 9, 9, 0, 0, 0xFFFF, 0, 0xFFFF)))
    assert [alpha.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 255, 0)]
    grey = decode_image(raw_png(16, 4, struct.pack(">4H", 0, 0, 0x4040, 0xFFFF)))
    assert [grey.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (64, 64, 64)]
    keyed = decode_image(raw_png(16, 0, struct.pack(">2H", 7, 0x4040), chunk(b"tRNS", struct.pack(">H", 7))))
    assert [keyed.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (64, 64, 64)]


def test_palette_with_and_without_transparency() -> None:
    palette = chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    plain = decode_image(raw_png(8, 3, b"\0\1", palette))
    assert [plain.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (200, 100, 50)]
    clear = decode_image(raw_png(8, 3, b"\0\1", palette + chunk(b"tRNS", b"\xff\0")))
    assert [clear.getpixel((x, 0)) for x in (0, 1)] == [(10, 20, 30), (255, 255, 255)]


CORNERS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}


@pytest.mark.parametrize(
    (
        "orientation",
        "corners",
    ),  # upper left, upper right, lower left, lower right, by the EXIF standard's table
    list(enumerate(["RGBW", "GRWB", "WBGR", "BWRG", "RBGW", "BRWG", "WGBR", "GWRB"], 1)),
)
def test_exif_orientation_is_applied(orientation: int, corners: str) -> None:
    image = Image.new("RGB", (32, 16))
    for name, box in zip("RGBW", [(0, 0), (16, 0), (0, 8), (16, 8)], strict=True):
        image.paste(CORNERS[name], (*box, box[0] + 16, box[1] + 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})):
        data = encoded(image, kind, exif=exif, **options)
        decoded = decode_image(data)
        assert decoded.size == ((32, 16) if orientation < 5 else (16, 32))
        checked = check_image(data)
        assert (checked.width, checked.height) == decoded.size
        right, low = decoded.size[0] - 2, decoded.size[1] - 2
        found = [pixel(decoded, *place) for place in ((1, 1), (right, 1), (1, low), (right, low))]
        for color, name in zip(found, corners, strict=True):
            assert all(abs(a - b) < 6 for a, b in zip(color, CORNERS[name], strict=True))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_image_as_it_is() -> None:
    image = Image.new("RGB", (6, 2), (0, 0, 0))
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        data = encoded(image, "JPEG", exif=exif)
        assert decode_image(data).size == (6, 2)
        assert check_image(data) == Checked("jpg", 6, 2)


def test_the_check_tells_format_size_and_what_is_not_used() -> None:
    frames = [Image.new("RGB", (9, 7), color) for color in ((255, 0, 0), (0, 0, 255), (0, 255, 0))]
    assert check_image(encoded(frames[0], "PNG")) == Checked("png", 9, 7)
    assert check_image(encoded(frames[0], "BMP")) == Checked(None, 9, 7)
    several: dict[str, object] = {"save_all": True, "append_images": frames[1:]}
    for kind, name in (("PNG", "png"), ("WEBP", "webp"), ("GIF", None)):
        data = encoded(frames[0], kind, **several)
        assert check_image(data) == Checked(name, 9, 7, (ANIMATED,))
        red, green, blue = pixel(decode_image(data), 4, 4)
        assert (red > 240, green < 10, blue < 10) == (True, True, True)
    assert check_image(encoded(frames[0], "MPO", **several)) == Checked("jpg", 9, 7, (SEVERAL,))


def test_codes_are_of_the_list() -> None:
    cut = encoded(noise(), "JPEG")[:1500]
    found = [
        refusal(data) for data in (b"", b"GIF", b"GIF89a", cut, raw_png(8, 0, b"\0"), raw_png(8, 0, b""))
    ]
    assert found == ["image-size", "image-format", "image-damaged", *["image-truncated"] * 3]
    assert refusal(raw_png(8, 2, b"\x09" * 6).replace(zlib.compress(b"\0" + b"\x09" * 6), b"?" * 8))
    assert refusal(png(), ImageLimits(max_pixels=4)) == "image-size"
    for ref, code in (
        (ImageRef(path="https://x.org/a.png"), "image-url"),
        (ImageRef(path="nowhere.png"), "image-missing"),
        (ImageRef(path="../a.png"), "image-outside"),
    ):
        with pytest.raises(ImageError) as told:
            read_image(ref, Path("."))
        assert told.value.code == code
        assert code in CODES
    assert pickle.loads(pickle.dumps(told.value)).code == "image-outside"  # as a worker process hands it back


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


def test_a_pixel_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    # 400 megapixels of one bit in 48 KB; as RGB they would take 1.2 GB
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(bytes(2501 * 20000), 9)) + chunk(b"IEND", b"")
    assert len(bomb) < 49_000
    assert refusal(bomb) == "image-size"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # some programs do this to read large scans
    with pytest.raises(ImageError, match="20000 x 20000 pixels, more than the limit of 40,000,000"):
        decode_image(bomb)
    small = encoded(Image.new("L", (300, 300)), "PNG")
    with pytest.raises(ImageError, match="300 x 300 pixels, more than the limit of 80,000"):
        decode_image(small, ImageLimits(max_pixels=80_000))


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_in_the_text_of_a_png_is_not_unpacked(name: bytes) -> None:
    packed = zlib.compress(bytes(200_000_000), 1)
    lead = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    plain = png()
    bomb = plain[:33] + chunk(name, lead + packed) + plain[33:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode_image(bomb).tobytes() == decode_image(plain).tobytes()  # the text isn't used
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # kilobytes; unpacked it would be 200,000


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


def test_a_program_s_switch_for_truncated_files_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with _strict():
        with _strict():  # another thread's
            assert ImageFile.LOAD_TRUNCATED_IMAGES is False
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    # pixels missing from a file that has its end: without care it would be accepted with black rows
    whole = encoded(Image.new("RGB", (64, 64), (9, 9, 9)), "PNG", compress_level=0)
    short = rehashed(whole[:33] + struct.pack(">I", 3000) + whole[37:3041] + bytes(4) + chunk(b"IEND", b""))
    assert refusal(short) == "image-truncated"
    with Image.open(io.BytesIO(short)) as lenient:
        lenient.load()


def test_other_formats_are_refused() -> None:
    named = {"TIFF": "a TIFF or raw camera image", "ICO": "an icon file", "PPM": "not a readable"}
    for kind, words in named.items():
        with pytest.raises(ImageError, match=words) as error:
            decode_image(encoded(noise(), kind))
        assert error.value.code == "image-format"
    with pytest.raises(ImageError, match="an SVG drawing; save it as PNG or JPEG"):
        decode_image(b"<svg xmlns='http://www.w3.org/2000/svg'/>")


@pytest.mark.parametrize(
    "name",
    [
        "http://x.org/a.png",
        "HTTPS://x.org/a.png",
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


def seeds() -> dict[str, bytes]:
    """Small images of every format and mode."""
    image = noise((16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    several: dict[str, object] = {"save_all": True, "append_images": [noise((16, 16))]}
    rgba = image.copy()
    rgba.putalpha(image.convert("L"))
    palette = image.quantize(32)
    return {
        **{kind: encoded(image, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")},
        "PNG with EXIF": encoded(image, "PNG", exif=exif),
        "PNG with alpha": encoded(rgba, "PNG"),
        "PNG with palette": encoded(palette, "PNG"),
        "PNG with a transparent colour": encoded(palette, "PNG", transparency=3),
        "PNG of 16 bits": encoded(image.convert("I;16"), "PNG"),
        "PNG of 1 bit": encoded(image.convert("1"), "PNG"),
        "animated PNG": encoded(image, "PNG", **several),
        "progressive JPEG": encoded(image, "JPEG", progressive=True),
        "JPEG with EXIF": encoded(image, "JPEG", exif=exif, restart_marker_blocks=1),
        "CMYK JPEG": encoded(image.convert("CMYK"), "JPEG"),
        "grey JPEG": encoded(image.convert("L"), "JPEG"),
        "MPO": encoded(image, "MPO", **several),
        "lossless WebP": encoded(rgba, "WEBP", lossless=True),
        "animated WebP": encoded(image, "WEBP", **several),
        "animated GIF": encoded(palette, "GIF", transparency=3, **several),
        "BMP with palette": encoded(palette, "BMP"),
    }


SEEDS = seeds()


def rehashed(data: bytes) -> bytes:
    """A PNG with the right checksums, so that damage goes deeper than them."""
    out, position = data[:8], 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 8 + size]
        out += data[position : position + 4] + body + struct.pack(">I", zlib.crc32(body))
        position += 12 + size
    return out + data[position:]


def test_a_png_whose_last_chunk_is_not_empty_is_no_sure_one() -> None:
    data = SEEDS["PNG of 1 bit"]
    end = struct.pack(">I", 1) + b"IEND\0" + struct.pack(">I", zlib.crc32(b"IEND\0"))
    assert surely_whole(data)
    assert not surely_whole(data[:-12] + end)


@given(name=st.sampled_from(sorted(SEEDS)), draw=st.data(), lenient=st.booleans())
@settings(max_examples=600, deadline=None)
@pytest.mark.filterwarnings("ignore:Invalid APNG", "ignore:Corrupt EXIF data", "ignore:Truncated File Read")
def test_check_and_decoder_agree_on_damaged_images(name: str, draw: st.DataObject, lenient: bool) -> None:
    damaged = bytearray(SEEDS[name])
    for _ in range(draw.draw(st.integers(0, 3))):
        place = draw.draw(st.integers(0, len(damaged) - 1))
        what = draw.draw(st.sampled_from(["set", "set", "cut", "remove", "insert"]))
        if what == "set":
            damaged[place] = draw.draw(st.integers(0, 255))
        elif what == "insert":
            damaged[place:place] = draw.draw(st.binary(min_size=1, max_size=4))
        else:
            del damaged[place : None if what == "cut" else place + draw.draw(st.integers(1, 8))]
        if not damaged:
            break
    data = bytes(damaged)
    if draw.draw(st.booleans()) and data.startswith(b"\x89PNG"):
        data = rehashed(data)
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = lenient
    try:
        limits = ImageLimits(max_pixels=1_000_000)
        if refusal(data, limits) == "":
            image, checked = decode_image(data, limits), check_image(data, limits)
            assert image.mode == "RGB"
            assert image.size == (checked.width, checked.height)
        assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@given(data=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_give_an_image_or_an_image_error(data: bytes) -> None:
    assert refusal(data, ImageLimits(max_pixels=1_000_000)) in {"", *CODES}
