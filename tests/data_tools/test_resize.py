from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageCms
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


@pytest.mark.parametrize("progressive", [False, True])
def test_photos_have_no_more_pixels_than_the_setting_says(progressive: bool) -> None:
    settings = ImageSettings(max_pixels=1000)
    small = resized(halves("JPEG", progressive=progressive), settings)
    assert decode_image(small).size == (40, 24)  # the largest of 5 to 3 with at most 1,000 pixels
    assert resized(small, settings) is small
    for kind in ("PNG", "WEBP"):
        with pytest.raises(ImageError, match="100 x 60 pixels, more than the limit of 1,000"):
            resized(halves(kind), settings)
    both = ImageSettings(max_pixels=1000, max_side=20)
    assert decode_image(resized(halves("JPEG"), both)).size == (20, 12)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(resized(halves("JPEG", exif=exif), settings)).size == (24, 40)


def test_the_setting_holds_in_builds_and_conversions(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(halves("JPEG"))
    rows = [{"prompt": "Which?", "chosen": "a", "rejected": "b", "images": ["0.jpg"]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["convert", "--from", "trl", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "converted")]
    assert CliRunner().invoke(app, [*command, "--max-pixels", "1000"]).exit_code == 0
    assert CliRunner().invoke(app, [*command[:-1], str(tmp_path / "large")]).exit_code == 0
    (image,) = (image for record in open_records(tmp_path / "converted", "train") for image in record.images)
    assert decode_image(image.data or b"").size == (40, 24)
    assert image.notes == ("larger than 1,000 pixels: used at a smaller size",)
    # a data set that was made without the setting
    source = {"type": "shards", "name": "s", "path": str(tmp_path / "large"), "splits": {"train": 1.0}}
    build(
        DataConfig.model_validate({"sources": [source], "images": {"max_pixels": 1000}}), tmp_path / "built"
    )
    (image,) = (image for record in open_records(tmp_path / "built", "train") for image in record.images)
    assert decode_image(image.data or b"").size == (40, 24)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_colour_profile_stays_and_the_numbers_too(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    data = halves(kind, icc_profile=profile, exif=exif.tobytes())
    small = resized(data, HALF)
    with Image.open(io.BytesIO(small)) as image:
        assert image.info["icc_profile"] == profile
        assert 0x0112 not in image.getexif()
    plain = halves(kind, exif=exif.tobytes())
    assert decode_image(small).tobytes() == decode_image(resized(plain, HALF)).tobytes()
    assert pixel(decode_image(small), 15, 5)[0] > 235  # upright: red is above


def test_a_profile_of_other_than_rgb_numbers_is_left_out() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"CMYK"
    buffer = io.BytesIO()
    Image.new("CMYK", (100, 60)).save(buffer, "JPEG", icc_profile=bytes(profile))
    with Image.open(io.BytesIO(resized(buffer.getvalue(), HALF))) as image:
        assert (image.mode, image.size, "icc_profile" in image.info) == ("RGB", (50, 30), False)


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
