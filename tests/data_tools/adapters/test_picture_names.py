"""Fields that say which picture it is that was read from their row, and those that may show another."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sample_records import png

from data_tools.adapters.trl import TrlConfig
from data_tools.source import Rejected

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
PAIR = {"prompt": "What?", "chosen": "Red.", "rejected": "Blue."}


def adapted(row: dict[str, Any], images: Path = FIXTURES / "images") -> Any:
    """The records of a row, or its code and reason."""
    found = TrlConfig(name="x", path=images / "x.jsonl").adapt(row)
    return (found.code, found.reason) if isinstance(found, Rejected) else found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "coco/12.jpg"),
        ("image_id", "000012.jpg"),
        ("questionId", "q-12.png"),
        ("url", "https://example.org/abc.jpg"),
        ("image_url", "https://example.org/abc.jpg"),
        ("image-url", "https://example.org/abc.jpg"),
        ("coco_url", "http://images.cocodataset.org/train2017/12.jpg"),
        ("__key__", "shard/12.png"),
        ("__url__", "shards/0.tar#12.png"),
        ("file_name", "COCO_12.jpg"),
        ("fileName", "COCO_12.jpg"),
        ("source", "films/alien.mp4"),
        ("video_id", "alien.mp4"),
        ("image_path", "photos/day/red.png"),
        ("imgPath", "red.png"),
        ("image", "./red.png"),
        ("photo", ["red.png"]),
        ("picture", {"bytes": None, "path": "red.png"}),
        ("comment", "day/red.png"),
        ("comment", "taken from red.png"),
        ("meta", {"file_name": "COCO_12.jpg", "height": 480, "license": 3}),
    ],
)
def test_what_only_names_the_picture_that_was_read_is_no_second_one(field: str, value: object) -> None:
    (record,) = adapted({**PAIR, "images": ["red.png"], field: value})
    assert len(record.images) == 1
    if isinstance(value, str):
        assert record.provenance["fields"][field] == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_path", "blue.png"),
        ("image2_url", "https://example.org/abc.jpg"),
        ("second_url", "https://example.org/abc.jpg"),
        ("url", "data:image/png;base64," + base64.b64encode(png((1, 2, 3))).decode()),
        ("id", base64.b64encode(png((1, 2, 3))).decode()),
        ("source", png((1, 2, 3))),
        ("source", ["a.png", png((1, 2, 3))]),
        ("mask", "masks/red_mask.png"),
        ("mask_file", "mask.png"),
        ("rejected_images", ["red.png"]),
        ("side", ["red.png"]),
        ("meta", {"thumb": "thumb.png"}),
    ],
)
def test_what_may_be_another_picture_is_refused(field: str, value: object) -> None:
    found = adapted({**PAIR, "images": ["red.png"], field: value})
    assert found[0] == "media-unread", found
    assert f"has pictures in images and in {field}" in found[1]


def test_paths_that_differ_in_a_folder_are_two_pictures(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(png())
    row = {**PAIR, "images": ["left/1.png"]}
    assert adapted({**row, "image_path": "right/1.png"}, tmp_path)[0] == "media-unread"
    for same in ("left/1.png", "1.png", "/data/left/1.png", "data\\left\\1.png"):
        assert len(adapted({**row, "image_path": same}, tmp_path)[0].images) == 1, same
    two = {**PAIR, "images": ["left/1.png", "right/1.png"]}
    assert len(adapted({**two, "image_paths": ["left/1.png", "right/1.png"]}, tmp_path)[0].images) == 2


def test_a_name_is_one_of_the_picture_only_where_a_picture_was_read() -> None:
    for field in ("id", "url", "file_name"):
        found = adapted({**PAIR, field: "12.jpg"})
        assert found == (
            "media-unread",
            f"has a picture in its field {field}, which trl doesn't read (it reads images, image, image_paths, "
            f"image_path): rename it, convert with --from columns --set image={field}, or name it in ignore_fields to "
            "leave it out",
        )
    # bytes, and one path
    for held in (png(), {"bytes": png(), "path": None}, {"bytes": png(), "path": "1.jpg"}):
        assert isinstance(adapted({**PAIR, "images": [held], "image_path": "coco/12.jpg"}), tuple)
        both = adapted({**PAIR, "images": [held, held], "image_path": "coco/12.jpg"})
        assert both[0] == "media-unread"
