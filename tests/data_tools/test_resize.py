from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from sample_records import pixel
from typer.testing import CliRunner

from data_tools.build import DataConfig, build
from data_tools.cli import app
from data_tools.images import ImageError, check_image, decode_image
from data_tools.resize import ImageSettings, resized
from data_tools.shards import open_records

HALF = ImageSettings(max_side=50)


def halves(kind: str, size: tuple[int, int] = (100, 60), **options: object) -> bytes:
    """The left half red, the right half blue."""
    image = Image.new("RGB", size, (250, 0, 0))
    image.paste((0, 0, 250), (size[0] // 2, 0, size[0], size[1]))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "name"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_large_image_becomes_smaller_in_its_own_format(kind: str, name: str) -> None:
    data = halves(kind)
    small = resized(data, HALF)
    found = check_image(small)
    assert (found.extension, found.width, found.height) == (name, 50, 30)
    left, right = (pixel(decode_image(small), x, 15) for x in (10, 40))
    assert left[0] > 235
    assert left[2] < 15
    assert right[0] < 15
    assert right[2] > 235
    assert resized(data, HALF) == small
    assert resized(small, HALF) is small


def test_a_build_and_a_conversion_make_them_smaller_once(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(halves("JPEG"))
    (tmp_path / "1.png").write_bytes(halves("PNG", (40, 30)))
    rows = [
        {"prompt": "Which?", "chosen": "a", "rejected": "b", "images": [name]} for name in ("0.jpg", "1.png")
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    row = {"type": "trl", "name": "t", "path": str(tmp_path / "rows.jsonl"), "splits": {"train": 1.0}}
    config = DataConfig.model_validate({"sources": [row], "images": {"max_side": 50}})
    build(config, tmp_path / "built")
    command = ["convert", "--from", "trl", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "converted")]
    for more in (["--max-side", "50"], ["--max-side", "50", "--overwrite"]):
        done = CliRunner().invoke(app, [*command, *more])
        assert done.exit_code == 0, done.output
    for folder in (tmp_path / "built", tmp_path / "converted"):
        images = [record.images[0] for record in open_records(folder, "train", verify=True)]
        assert [decode_image(image.data or b"").size for image in images] == [(50, 30), (40, 30)]
        assert images[0].sha256 == hashlib.sha256(resized(halves("JPEG"), HALF)).hexdigest()
        assert images[1].data == halves("PNG", (40, 30))  # small already, so the very bytes
    build(DataConfig.model_validate({"sources": [row]}), tmp_path / "plain")
    plain = [record.images[0].data for record in open_records(tmp_path / "plain", "train")]
    assert plain == [halves("JPEG"), halves("PNG", (40, 30))]


def test_bytes_pass_unchanged_unless_it_is_asked_for() -> None:
    data = halves("PNG")
    assert resized(data, ImageSettings()) is data
    assert resized(data, ImageSettings(max_side=100)) is data
    assert resized(b"anything", ImageSettings()) == b"anything"
    with pytest.raises(ImageError):
        resized(data[:200], HALF)


def test_it_is_turned_upright_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored upper left corner is shown at the upper right
    small = resized(halves("JPEG", exif=exif), HALF)
    image = decode_image(small)
    assert image.size == (30, 50)
    assert pixel(image, 15, 5)[0] > 235
    assert pixel(image, 15, 45)[2] > 235


def test_a_narrow_image_keeps_a_pixel_and_webp_stays_lossless() -> None:
    assert decode_image(resized(halves("PNG", (400, 2)), HALF)).size == (50, 1)
    small = resized(halves("WEBP", lossless=True), HALF)
    assert small[12:16] == b"VP8L"
    assert small[12:16] != resized(halves("WEBP"), HALF)[12:16] == b"VP8 "


@pytest.mark.parametrize("lossless", [True, False])
def test_a_colour_profile_or_frames_say_nothing_of_loss(lossless: bool) -> None:
    frames = {"save_all": True, "append_images": [Image.new("RGB", (100, 60))]}
    for options in ({"icc_profile": b"p" * 501}, frames, {**frames, "icc_profile": b"p" * 501}):
        data = halves("WEBP", lossless=lossless, **options)
        assert data[12:16] == b"VP8X"
        assert resized(data, HALF)[12:16] == (b"VP8L" if lossless else b"VP8 ")
