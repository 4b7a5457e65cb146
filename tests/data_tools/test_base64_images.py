from __future__ import annotations

import base64
from pathlib import Path

import pytest
from sample_records import png

from data_tools.adapters.base import RowError, take_image, take_images
from data_tools.base64_images import bytes_of, path_of
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
        {"bytes": CODED, "path": None},
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
        ("iVBORw0KGgo" + "-" * 60, "iVBORw0KGgo" + "-" * 60),
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
        ({"image": [None]}, "an image is neither a path nor bytes", "image-missing"),
    ):
        with pytest.raises(RowError, match=why) as raised:
            take_images(row, "image", tmp_path)
        assert raised.value.code == code


def test_a_damaged_image_is_at_hand(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="truncated") as raised:
        take_image({"bytes": PNG[:-16]}, tmp_path)
    assert raised.value.image == PNG[:-16]
