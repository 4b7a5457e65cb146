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
from data_tools.adapters.media_kinds import medium_in, medium_of, named_medium
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
                "image_split",
                "imageDir",
                "image-folder",
                "image_set",
                "photo_credit",
                "image_creator",
                "image_date",
                "video_time",
                "image_style",
                "image_provider",
                "audio_transcript",
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
        ("a/b_c.PNG", "picture"),
        ("/photos/My Trip/1.png", "picture"),
        ("./b c.png", "picture"),
        ("C:\\Users\\me\\b c.png", "picture"),
        ("file:///photos/b c.png", "picture"),
        ("photo.AVIF", "picture"),
        ("data:application/octet-stream;base64," + base64.b64encode(png()).decode(), "picture"),
        ("data:application/pdf;base64,JVBERi0xLjcK", None),
        (base64.b64encode(b"\0\0\0\x20ftypmp42" + bytes(99)).decode(), "video"),
        (base64.urlsafe_b64encode(b"\xff\xd8\xff\xe0" + bytes(99)).decode().rstrip("="), "picture"),
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
        ("taken from a.png", None),
        ("a.png\nand more", None),
        ("apng", None),
        (b"text", None),
        (7, None),
    ],
)
def test_media_by_their_values(value: object, medium: str | None) -> None:
    assert medium_of(value) == medium


@pytest.mark.parametrize(
    ("name", "value", "medium"),
    [
        ("speech", "Friends, Romans, countrymen.", None),
        ("speech", "Hello", None),  # a field of words as often as of sounds
        ("speech", {"text": "Hello", "speaker": "A"}, None),
        ("speech", "talks/1.wav", "sound"),
        ("speech", "https://example.org/talk?id=1", "sound"),
        ("speech", {"array": [0.1, 0.2], "sampling_rate": 16000}, "sound"),
        ("sound", b"RIFF\0\0\0\0WAVEfmt ", "sound"),
        ("sound", [0.1, 0.2], "sound"),
        ("movie", "Alien", None),
        ("movie", "Alien.mkv", "video"),
        ("picture", "a red square on a white ground", None),
        ("picture", "COCO_train2014_000000000009", "picture"),  # a file's name without its ending
        ("picture", "my scan 3.png", "picture"),
        ("picture", "my scan 3.jp2k", "picture"),
        ("video", "A man walks his dog.", None),
        ("video", "clip 12.3gp", "video"),
        ("video", ["A man walks.", None], None),
        ("images", ["a red one", "b.png"], "picture"),
        ("image", "/data/My Pictures/1", "picture"),
        ("audio", 3, None),
        ("image", float("nan"), None),
        ("image", [None, float("nan"), " "], None),
        ("image", {"bytes": None, "path": None}, None),
        ("image", {"width": 3, "captioned": False}, None),
        ("image", {"url": "a.png", "width": 3}, "picture"),
    ],
)
def test_a_name_counts_unless_the_value_is_prose(name: str, value: object, medium: str | None) -> None:
    assert medium_in(name, value) == medium


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
