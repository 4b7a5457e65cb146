"""Files that lack their end though they look whole, and whole ones with more behind it."""

from __future__ import annotations

import io
import itertools

import pytest
from PIL import Image, ImageFile
from sample_records import png

from data_tools.images import ImageError, check_image, decode_image

END = b"\xff\xd9"
SUBSAMPLING = (0, 1, 2)
RESTARTS = (0, 1, 7)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    codes = []
    for look in (decode_image, check_image):
        try:
            look(data)
            codes.append("")
        except ImageError as error:
            codes.append(error.code)
    assert codes[0] == codes[1]
    return codes[0]


def picture(kind: str) -> Image.Image:
    size = (150, 133)
    if kind == "noise":
        return Image.effect_noise(size, 80).convert("RGB")
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    if kind == "grey below":  # as a cut file would look
        image.paste((128, 128, 128), (0, 50, *size))
    return image.resize((17, 17)) if kind == "small" else image


KINDS = ("noise", "gradient", "grey below", "small")


def jpegs(image: Image.Image) -> list[bytes]:
    return [
        encoded(
            image.convert(mode),
            "JPEG",
            quality=90,
            subsampling=subsampling,
            progressive=progressive,
            restart_marker_blocks=restarts,
        )
        for mode, subsampling, progressive, restarts in itertools.product(
            ("RGB", "L", "CMYK"), SUBSAMPLING, (False, True), RESTARTS
        )
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_jpegs_of_all_kinds_are_accepted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**22)  # Pillow's buffer for restarts is too small otherwise
    image = picture(kind)
    phone = encoded(image, "MPO", save_all=True, append_images=[picture("gradient")])
    for data in (*jpegs(image), phone):
        for more in (b"", b"\r\n\0junk", b"\xff\xda\0" * 200):
            assert refusal(data + more) == ""


def scan(data: bytes) -> tuple[int, int]:
    """Where the codes of the first scan begin, and its last ones end."""
    start = data.index(b"\xff\xda")
    stop = next(
        place
        for place in range(start + 2, len(data))
        if data[place] == 0xFF and data[place + 1] not in (0, *range(0xD0, 0xD8))
    )
    return start + 14, stop


@pytest.mark.parametrize("kind", ["noise", "gradient"])
def test_hazard_21_jpegs_cut_before_an_end_are_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg makes grey rows of what is missing, and says nothing."""
    monkeypatch.setattr(ImageFile, "MAXBLOCK", 2**22)
    for data in jpegs(picture(kind)):
        start, stop = scan(data)
        for share in (0.2, 0.5, 0.7):
            cut = data[: start + int((stop - start) * share)] + END
            with Image.open(io.BytesIO(cut)) as lenient:
                lenient.load()
            assert refusal(cut) == "image-truncated"


def test_what_is_not_found_of_a_cut_jpeg() -> None:
    """As the docstring of `data_tools.jpeg` says; a rule that finds these may replace this."""
    data = encoded(picture("noise"), "JPEG", quality=90)
    start, stop = scan(data)
    last_rows = data[: start + int((stop - start) * 0.97)] + END
    half = (start + stop) // 2
    middle = data[:half] + bytes(200) + data[half + 200 :]
    progressive = encoded(picture("noise"), "JPEG", quality=90, progressive=True)
    details = progressive[: progressive.rindex(b"\xff\xda") + 100] + END
    assert [refusal(found) for found in (last_rows, middle, details)] == ["", "", ""]


def test_a_jpeg_of_very_many_scans_is_refused_undecoded() -> None:
    """A scan of a few bytes takes as long as one of the whole picture; thousands fit into a small file."""
    data = encoded(Image.new("L", (64, 64), 90), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xc4") : -2]
    assert refusal(data[:-2] + last * 50 + END) == ""
    assert refusal(data[:-2] + last * 100 + END) == "image-size"


def test_a_gif_ends_with_its_trailer_whatever_comes_behind() -> None:
    image = picture("noise").quantize(16)
    several = {"save_all": True, "append_images": [image.rotate(90)], "comment": b"with ; in it"}
    for data in (encoded(image, "GIF"), encoded(image, "GIF", **several)):
        for more in (b"", b"\r\n", b"\0\0", b"<html>"):
            assert refusal(data + more) == ""
        for missing in (1, 2, 300):
            assert refusal(data[:-missing]) == "image-truncated"
            assert refusal(data[:-missing] + b"\r\n") == "image-truncated"


def test_a_png_without_its_last_bytes_is_truncated() -> None:
    alpha = encoded(Image.new("RGBA", (3, 3)), "PNG")
    for data in (png(), encoded(picture("noise").quantize(16), "PNG"), alpha):
        assert refusal(data + b"junk") == ""
        for missing in (1, 2, 3, 4, 5, 12):
            assert refusal(data[:-missing]) == "image-truncated"
