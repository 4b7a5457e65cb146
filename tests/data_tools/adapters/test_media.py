"""A picture, a video or a sound that an adapter doesn't read: the row is refused, by the field's name."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from sample_records import png
from typer.testing import CliRunner

from data_tools.adapters import ADAPTERS
from data_tools.adapters.base import FileSource, pair, question, take_image, take_text
from data_tools.adapters.media import Watched, medium_of, named_medium, unread_media
from data_tools.cli import app
from data_tools.rows.open import all_rows
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
TYPES = {str(adapter.model_fields["type"].default): adapter for adapter in ADAPTERS}


def good_rows() -> list[tuple[str, dict[str, Any]]]:
    """Of each fixture the first row that becomes a record, with its format."""
    found = []
    for path in sorted(FIXTURES.glob("*.json*")):
        kind = max((name for name in TYPES if path.name.startswith(name)), key=len)
        config = TYPES[kind](name="x", path=path, **({"prefix": "nlvr"} if kind == "nlvr" else {}))
        rows = [item[1] for item in all_rows(path) if not isinstance(item, Rejected)]
        found.append((path.name, next(row for row in rows if not isinstance(config.adapt(row), Rejected))))
    return found


@pytest.mark.parametrize(
    ("file", "row"), good_rows(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_adapter_refuses_a_picture_that_it_does_not_read(file: str, row: dict[str, Any]) -> None:
    kind = max((name for name in TYPES if file.startswith(name)), key=len)
    source = TYPES[kind](name="x", path=FIXTURES / file, **({"prefix": "nlvr"} if kind == "nlvr" else {}))
    assert isinstance(source.adapt(row), tuple)
    for field, value in (
        ("picture", "a.png"),
        ("rejected_images", ["red.png"]),
        ("extra", {"image": {"bytes": png(), "path": None}}),
        ("scan", "scans/1.JPG"),
    ):
        refused = source.adapt({**row, field: value})
        assert isinstance(refused, Rejected), field
        assert refused.code == "media-unread"
        assert f"in its field {field}" in refused.reason or f"and in {field}" in refused.reason
        assert refused.row == {**row, field: value}
        ignoring = source.model_copy(update={"ignore_fields": [field]})
        assert isinstance(ignoring.adapt({**row, field: value}), tuple)
        for nothing in (None, "", [], 3, [None]):
            if field != "scan":
                assert isinstance(source.adapt({**row, field: nothing}), tuple), (field, nothing)
    clip = source.adapt({**row, "clip": "a.mp4"})
    assert isinstance(clip, Rejected)
    assert (clip.code, clip.reason.partition(",")[0]) == ("other-modality", "has a video in its field clip")


@pytest.mark.parametrize(
    ("name", "medium"),
    [
        *(
            (name, "picture")
            for name in [
                "image",
                "images",
                "Images",
                "image_path",
                "imagePath",
                "image_list",
                "image_url",
                "img",
            ]
        ),
        *(
            (name, "picture")
            for name in [
                "imgs",
                "IMG",
                "picture",
                "photos",
                "rejected_images",
                "image_0",
                "image2",
                "jpg",
                "png",
            ]
        ),
        *(
            (name, "picture")
            for name in [
                "prompt_image",
                "source_images",
                "pixel_values",
                "imagepaths",
                "ImageURL",
                "screenshot",
                "chosen_image",
            ]
        ),
        *((name, "video") for name in ["video", "videos", "video_path", "VideoFile", "mp4"]),
        *((name, "sound") for name in ["audio", "audios", "speech", "input_audio", "wav"]),
        *(
            (name, None)
            for name in [
                "image_text",
                "imageSource",
                "image_id",
                "image_width",
                "num_images",
                "has_image",
                "image_severity",
                "image_caption",
            ]
        ),
        *(
            (name, None)
            for name in ["question", "imagine", "category", "origin_dataset", "Visual", "models", "text"]
        ),
    ],
)
def test_fields_by_their_names(name: str, medium: str | None) -> None:
    assert named_medium(name) == medium


@pytest.mark.parametrize(
    ("value", "medium"),
    [
        ("a/b c.PNG", "picture"),
        ("https://example.org/a.jpeg?size=2", "picture"),
        ("data:image/webp;base64,AAAA", "picture"),
        ("data:audio/wav;base64,AAAA", "sound"),
        ("clip.webm", "video"),
        ("talk.mp3", "sound"),
        (base64.b64encode(png()).decode(), "picture"),
        (png(), "picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x18ftypavif", "picture"),
        ("The file is a.png.", None),
        ("a.png\nand more", None),
        ("apng", None),
        (b"text", None),
        (7, None),
    ],
)
def test_media_by_their_values(value: object, medium: str | None) -> None:
    assert medium_of(value) == medium


def test_taking_a_row_apart_asks_for_all_of_it() -> None:
    row = {"a": 1, "b": 2}
    for take in (
        lambda row: {**row},
        dict,
        lambda row: row.items(),
        lambda row: row.values(),
        lambda row: row.copy(),
    ):
        watched = Watched(row)
        take(watched)  # type: ignore[operator]
        assert watched.asked == {"a", "b"}
    watched = Watched(row)
    assert "a" in watched
    assert list(watched) == ["a", "b"]
    assert watched.asked == set()


def test_media_inside_what_is_read() -> None:
    row = {"turns": [{"value": "x", "image": "a.png"}, {"value": "a.png"}], "image": [{"path": "a.png"}]}
    assert unread_media(row, {"turns", "image"}) == ("turns.image", "picture")
    assert unread_media(row, {"turns", "image"}, inside=False) is None
    assert unread_media({"turns": [{"value": "a.png"}]}, {"turns"}) is None  # a text that is read
    assert unread_media({"turns": [{"value": "a.png"}]}, ()) == ("turns.value", "picture")
    both = {
        "meta": {"image": "a.png", "clip": "a.mp4"},
        "scan": {"bytes": png(), "path": "1"},
        "pages": [{"path": "a.jpg"}],
    }
    for ignored, left in (
        ((), ("meta.image", "picture")),
        (("meta.image",), ("meta.clip", "video")),
        (("meta",), ("scan", "picture")),
        (("meta", "scan"), ("pages", "picture")),
        (("meta", "scan", "pages"), None),
    ):
        assert unread_media(both, (), ignored) == left


class Photos(FileSource):
    """An adapter of somebody's own, which says nothing of what it reads."""

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        responses, comparisons = pair(take_text(row, "up"), take_text(row, "down"), "helpfulness")
        image = take_image(row.get("photo"), self.image_root)
        return PreferenceRecord(
            id=f"x-{where}",
            source=self.name,
            prompt=question(take_text(row, "question"), (image,)),
            images=(image,),
            responses=responses,
            comparisons=comparisons,
        )


def test_an_adapter_of_the_user() -> None:
    source = Photos(name="x", path=FIXTURES / "images" / "x.jsonl")
    row = {"photo": "red.png", "question": "q", "up": "a", "down": "b"}
    assert isinstance(source.adapt(row), tuple)
    refused = source.adapt({**row, "second_photo": "blue.jpg"})
    assert isinstance(refused, Rejected)
    assert "has pictures in photo and in second_photo" in refused.reason


def test_the_command_names_file_row_and_field(tmp_path: Path) -> None:
    row = {
        "prompt": "What is it?",
        "chosen": "Red.",
        "rejected": "Blue.",
        "image_url": "https://example.org/a.png",
    }
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in ({**row, "image_url": None}, row)))
    done = CliRunner().invoke(app, ["convert", "--from", "trl", str(path), "-o", str(tmp_path / "d")])
    assert done.exit_code != 0
    told = " ".join(str(done.exception).split())
    assert "1 x has a picture in its field image_url, which trl doesn't read" in told
    assert "(first: rows.jsonl:2)" in told
    assert "--set image=image_url" in told
