from __future__ import annotations

import base64
from pathlib import Path

import pytest
from sample_records import png

from data_tools.adapters.base import RowError, take_image, take_images
from data_tools.base64_images import bytes_of, first_bytes, path_of
from data_tools.images import ImageError
from data_tools.schema import ImageRef

PNG = png((5, 6, 7))
CODED = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value",
    [
        PNG,
        CODED,
        f" {CODED[:40]}\r\n{CODED[40:]}\n",
        f"data:image/png;base64,{CODED}",
        f"data:image/svg2+xml;charset=utf-8;base64,\n{CODED}",
        {"bytes": PNG, "path": "a.png"},
        {"bytes": bytearray(PNG)},
        {"bytes": CODED, "path": None},
        CODED.rstrip("="),
        {"bytes": base64.urlsafe_b64encode(PNG).decode().rstrip("=")},
        f"data:application/octet-stream;base64,{CODED}",
        f"data:;base64,{CODED.rstrip('=')}",
        {"bytes": f"data:image/png;base64,{CODED}"},
    ],
)
def test_every_form_holds_the_same_bytes(value: object, tmp_path: Path) -> None:
    assert bytes_of(value) == PNG
    assert take_image(value, tmp_path) == ImageRef.of_bytes(PNG)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a.png", "a.png"),
        ("/9j/a.png", "/9j/a.png"),  # begins as a JPEG does in base64, but is too short for one
        ("iVBORw0KGgo" + "." * 60, "iVBORw0KGgo" + "." * 60),
        ("Qk/" + "pictures/" * 8, "Qk/" + "pictures/" * 8),  # nor does a BMP begin so
        ("/9j/" + "a_b" * 24, "/9j/" + "a_b" * 24),  # no base64 has both / and _
        ({"bytes": None, "path": "a.png"}, "a.png"),
        ({"bytes": "", "path": "a.png"}, "a.png"),
        ({"bytes": PNG, "path": "a.png"}, "a.png"),
        ({"bytes": PNG}, None),
        ({"path": "data:image/png;base64,$$$"}, None),
        (CODED, None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_paths(value: object, path: str | None) -> None:
    assert path_of(value) == path


def test_the_alphabet_for_addresses() -> None:
    """0xff 0xfe 0xfd and so on are where the two alphabets differ."""
    data = b"\xff\xd8\xff" + b"\xfb\xff\xfe" * 30
    coded = base64.urlsafe_b64encode(data).decode()
    assert coded.startswith("_9j_-__-")
    assert bytes_of(coded) == data == bytes_of(coded.replace("_", "/").replace("-", "+"))
    assert bytes_of(coded.replace("_", "/")) is None  # neither the one nor the other


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (b"II*\0", "a TIFF or raw camera image, which isn't read"),
        (b"MM\0*", "a TIFF or raw camera image, which isn't read"),
        (b"\0\0\0\x0cJXL \r\n", "a JPEG XL image, which isn't read"),
        (b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 image, which isn't read"),
        (b"\0\0\0\x20ftypmp42", "a video, not an image"),
        (b"\0\0\0\x18ftypavif", "AVIF|not a readable"),
        (b"\0\0\0\x24ftypheic", "HEIC|not a readable"),
    ],
)
def test_base64_of_other_files_is_named_for_what_it_is(begin: bytes, why: str, tmp_path: Path) -> None:
    data = begin + bytes(200)
    for coded in (base64.b64encode(data), base64.urlsafe_b64encode(data).rstrip(b"=")):
        assert bytes_of(coded.decode()) == data
        assert first_bytes(coded.decode()).startswith(begin)
        with pytest.raises(RowError, match=why):
            take_image(coded.decode(), tmp_path)


@pytest.mark.parametrize("value", ["data:image/png;base64,$$$", {"bytes": "$$$", "path": "a.png"}])
def test_damaged_base64_is_no_path(value: object, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="base64 is damaged"):
        bytes_of(value)
    with pytest.raises(RowError, match="base64 is damaged") as raised:
        take_image(value, tmp_path)
    assert raised.value.code == "image-damaged"


def test_a_row_has_an_image_or_several(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (found,) = take_images({"image": "a.png"}, "image", tmp_path)
    assert found.path == str(tmp_path / "a.png")
    assert len(take_images({"image": ["a.png", PNG]}, "image", tmp_path)) == 2
    for row, why, code in (
        ({}, "has no field image", "field-missing"),
        ({"image": None}, "has no image", "image-missing"),
        ({"image": []}, "has no image", "image-missing"),
        ({"image": [None]}, "has no image", "image-missing"),
        ({"image": float("nan")}, "has no image", "image-missing"),
        ({"image": " "}, "has no image", "image-missing"),
        ({"image": {"bytes": None, "path": None}}, "has no image", "image-missing"),
        ({"image": ["a.png", None]}, "an image is neither a path nor bytes", "image-missing"),
        ({"image": {"bytes": b"", "path": "a.png"}}, "the image is empty", "image-size"),
    ):
        with pytest.raises(RowError, match=why) as raised:
            take_images(row, "image", tmp_path)
        assert raised.value.code == code


@pytest.mark.parametrize(
    "nothing",
    [None, "", " ", float("nan"), [], [None], ["", float("nan")], {"bytes": None, "path": None}, b""],
)
def test_an_image_that_need_not_be_there(nothing: object, tmp_path: Path) -> None:
    assert take_images({"image": nothing}, "image", tmp_path, needed=False) == ()
    assert take_images({}, "image", tmp_path, needed=False) == ()


def test_a_damaged_image_is_at_hand(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="truncated") as raised:
        take_image({"bytes": PNG[:-16]}, tmp_path)
    assert raised.value.image == PNG[:-16]
