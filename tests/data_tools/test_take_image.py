from __future__ import annotations

import io
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants
from PIL import Image
from sample_records import png

from data_tools.adapters.trl import TrlConfig
from data_tools.shards import open_records, write_shards
from data_tools.source import Rejected


def test_an_image_at_fault_has_a_code_and_its_bytes(tmp_path: Path) -> None:
    whole = png()
    (tmp_path / "cut.png").write_bytes(whole[:-20])
    config = TrlConfig(name="x", path=tmp_path / "x.jsonl")
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (tmp_path / "secret.env").write_bytes(b"BMW_TOKEN=1")  # as a BMP begins
    (tmp_path / "notes").write_bytes(b"of mine")
    for image, code, kept in (
        ("cut.png", "image-truncated", whole[:-20]),
        # a row can name any file of the folder: what is no image is never copied
        ("secret.env", "image-damaged", None),
        ({"path": "notes"}, "image-format", None),
        ({"bytes": b"GIF"}, "image-format", b"GIF"),
        ("none.png", "image-missing", None),
        ("../x.png", "image-outside", None),
        ("https://x.org/a.png", "image-url", None),
    ):
        found = config.adapt({**row, "images": [image]}, "here")
        assert isinstance(found, Rejected)
        assert (found.code, found.image) == (code, kept)


def test_the_images_of_a_hub_data_set_lie_in_its_own_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    own = tmp_path / "hub" / "datasets--org--name" / "snapshots" / "abc"
    other = tmp_path / "hub" / "datasets--org--other"
    for folder in (own, other, tmp_path / "downloads" / "extracted"):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(png())
    (tmp_path / "token").write_text("hf_secret")
    config = TrlConfig(name="x", path=Path("org/name"))
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    for folder in (own, tmp_path / "downloads" / "extracted"):
        read = config.adapt({**row, "images": [str(folder / "a.png")]}, "here")
        assert isinstance(read, tuple), read
        assert read[0].images[0].path == str(folder / "a.png")
    for outside in (other / "a.png", tmp_path / "token", "../../token"):
        found = config.adapt({**row, "images": [str(outside)]}, "here")
        assert isinstance(found, Rejected)
        assert (found.code, found.image) == ("image-outside", None)


def test_what_of_an_image_is_not_used_is_noted(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "a.gif").write_bytes(buffer.getvalue())
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "images": ["a.gif"]}
    read = TrlConfig(name="x", path=tmp_path / "x.jsonl").adapt(row, "here")
    assert isinstance(read, tuple)
    (record,) = read
    assert record.images[0].notes == ("animated: its first frame is used",)
    write_shards([record], tmp_path / "d")
    again = open_records(tmp_path / "d", "train")
    assert again[0] == record
    assert again.outline(0).images[0].notes == record.images[0].notes
