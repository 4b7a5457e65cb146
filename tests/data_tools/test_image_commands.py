"""Pictures as they come, through the commands: long texts, broken EXIF, places, large photos, addresses of files."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
import zlib
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from test_metadata import MARKS, _chunk, quarters, saved, with_all
from typer.testing import CliRunner

from data_tools.adapters.base import RowError, take_image
from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.images import decode_image, encode_png
from data_tools.schema import ImageRef
from data_tools.shards import open_records


def run(*arguments: str | Path) -> str:
    """The output of a command that must do its work."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def write_rows(path: Path, images: list[str]) -> Path:
    answers = {"chosen": "It is red.", "rejected": "It is blue."}
    rows = [
        {"prompt": f"Picture {number}?", **answers, "images": [name]} for number, name in enumerate(images)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pictures(folder: Path) -> list[ImageRef]:
    return [image for record in open_records(folder, "train") for image in record.images]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Photos with a name and a place, turned and not, as files and in a row; a broken one; one of long texts."""
    folder = tmp_path / "source"
    folder.mkdir()
    names = []
    for kind in ("PNG", "JPEG", "WEBP"):
        for turn in (1, 6):
            names.append(f"{kind}{turn}.{kind.lower()}")
            (folder / names[-1]).write_bytes(with_all(kind, turn))
    plain = encode_png(quarters())
    broken = b"MM\0*\0\0\0\x08\xff\xff" + bytes(40)
    (folder / "broken.png").write_bytes(plain[:33] + _chunk(b"eXIf", broken) + plain[33:])
    webp = saved(quarters(), "WEBP", exif=b"Exif\0\0" + broken)
    (folder / "broken.webp").write_bytes(webp)
    long = _chunk(b"zTXt", b"parameters\0\0" + zlib.compress(bytes(2**21)))
    (folder / "long.png").write_bytes(plain[:33] + long + plain[33:])
    inline = "data:image/jpeg;base64," + base64.b64encode(with_all("JPEG", 3)).decode()
    write_rows(folder / "rows.jsonl", [*names, "broken.png", "broken.webp", "long.png", inline])
    return folder


def holds_marks(data: bytes) -> list[bytes]:
    rest = data.replace(b"Exif\0\0II*", b"").replace(b"eXIf", b"")
    return [mark for mark in (*MARKS, b"parameters") if mark in rest]


def test_no_place_gets_into_shards_pages_and_exports(source: Path, tmp_path: Path) -> None:
    run("convert", "--from", "trl", source / "rows.jsonl", "-o", tmp_path / "data")
    for shard in (tmp_path / "data").glob("*.tar"):
        with tarfile.open(shard) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                assert member.name.endswith("json") or not holds_marks(file.read())
    upright = decode_image(encode_png(quarters())).size
    assert [decode_image(image.data or b"").size for image in pictures(tmp_path / "data")] == [
        *[upright, upright[::-1]] * 3,
        *[upright] * 4,
    ]
    assert run("check", "--decode", tmp_path / "data")
    run("preview", tmp_path / "data", "-o", tmp_path / "page.html")
    shown = (tmp_path / "page.html").read_text().split("base64,")[1:]
    assert len(shown) == 10
    assert not [mark for text in shown for mark in holds_marks(base64.b64decode(text.split('"')[0]))]
    run("export", tmp_path / "data", "--to", "trl", "-o", tmp_path / "export")
    read = datasets.load_dataset(str(tmp_path / "export"), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["images"][0].size for row in read] == [
        decode_image(image.data or b"").size for image in pictures(tmp_path / "data")
    ]


def test_metadata_are_kept_where_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    options = ("--keep-metadata", "-o", tmp_path / "data")
    run("convert", "--from", "trl", source / "rows.jsonl", *options)
    kept = [image.data for image in pictures(tmp_path / "data")]
    assert kept[2] == with_all("JPEG", 1)
    run("preview", tmp_path / "data", "-o", tmp_path / "page.html")
    shown = (tmp_path / "page.html").read_text().split("base64,")[1:]
    assert not [mark for text in shown for mark in holds_marks(base64.b64decode(text.split('"')[0]))]


def test_a_build_takes_metadata_out_too(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "data.yaml"
    rows = {"type": "trl", "name": "t", "path": str(source / "rows.jsonl"), "splits": {"train": 1.0}}
    config.write_text(json.dumps({"sources": [rows]}))
    run("build", config, "-o", tmp_path / "data")
    assert len(pictures(tmp_path / "data")) == 10
    assert not [mark for image in pictures(tmp_path / "data") for mark in holds_marks(image.data or b"")]


def test_a_photo_of_48_megapixels(tmp_path: Path) -> None:
    image = Image.new("L", (8000, 6000), 200)
    image.paste(10, (4000, 0, 8000, 6000))
    image.save(tmp_path / "photo.jpg", quality=40)
    write_rows(tmp_path / "rows.jsonl", ["photo.jpg"])
    run("convert", "--from", "trl", tmp_path / "rows.jsonl", "-o", tmp_path / "small", "--max-side", "512")
    (small,) = pictures(tmp_path / "small")
    shown = decode_image(small.data or b"")
    assert shown.size == (512, 384)
    left, right = (shown.convert("L").getpixel((x, 200)) for x in (100, 400))
    assert isinstance(left, int)
    assert isinstance(right, int)
    assert abs(left - 200) < 3
    assert abs(right - 10) < 3
    assert small.notes == ("larger than 40,000,000 pixels: used at a smaller size",)


def test_what_lets_larger_images_in_is_told(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(encode_png(quarters((64, 48))))
    rows = write_rows(tmp_path / "rows.jsonl", ["scan.png"])
    told = refusal(rows, "--max-pixels", "3000")
    assert "1 x the image has more than 3,000 pixels" in told
    assert "images.max_pixels and images.max_bytes (of convert: --max-pixels, --max-bytes)" in told
    assert "1 x the image has more than 100 bytes" in refusal(rows, "--max-bytes", "100")
    run("convert", "--from", "trl", rows, "-o", tmp_path / "data", "--max-pixels", "3072")


def refusal(rows: Path, *options: str | Path) -> str:
    with pytest.raises(UserError) as error:
        run("convert", "--from", "trl", rows, "-o", rows.parent / "none", *options)
    return str(error.value)


def test_where_images_may_lie_is_told(tmp_path: Path) -> None:
    """Absolute paths and addresses of files are read below the folder that the option names, and nowhere else."""
    (tmp_path / "img").mkdir()
    (tmp_path / "rows").mkdir()
    (tmp_path / "img" / "a b.png").write_bytes(encode_png(quarters()))
    lost = "Images are read below"
    place = tmp_path / "img" / "a b.png"
    rows = write_rows(tmp_path / "rows" / "rows.jsonl", [str(place)])
    told = refusal(rows)
    assert "an image leaves the image folder" in told
    assert f"{lost} {tmp_path / 'rows'} only; name their folder: images (--images of convert)" in told
    run("convert", "--from", "trl", rows, "-o", tmp_path / "data", "--images", tmp_path / "img")
    assert len(pictures(tmp_path / "data")) == 1
    for name in (str(place), place.as_uri(), f"file://localhost{place}", f"FILE://{place}", "a b.png"):
        assert take_image(name, tmp_path / "img").path == str(place)
    with pytest.raises(RowError, match="leaves the image folder"):
        take_image(place.as_uri(), tmp_path / "rows")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "..\\img\\a.png",
            "no such image file; its path has backslashes, as on Windows: write / in their place",
        ),
        ("C:\\data\\a.png", "no such image file; its path has backslashes"),
        ("~/a.png", "no such image file; paths in rows aren't expanded"),
        ("file://server/a.png", "is a file:// address of another machine"),
        ("https://x.org/a.png", "is a URL; images are read from local files only"),
        ("n" * 5000 + ".png", "an image can't be read (File name too long)"),
        ("n/" * 3000, "an image can't be read (File name too long)"),
        ("what: is this", "no such image file"),
        ("a\0b.png", "no such image file"),
    ],
)
def test_why_a_path_is_not_read(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RowError) as error:
        take_image(name, tmp_path)
    assert words in str(error.value)
    assert "nn" not in str(error.value)


def test_formats_of_base64_in_rows(tmp_path: Path) -> None:
    """In lines, as `base64 FILE` writes it, bare and as a data address."""
    lines = base64.encodebytes(saved(quarters(), "JPEG")).decode()
    given: list[Any] = [lines, "data:image/jpeg;base64," + lines, lines.replace("\n", "\r\n")]
    rows = write_rows(tmp_path / "rows.jsonl", given)
    rows.write_bytes(gzip.compress(rows.read_bytes()))
    run("convert", "--from", "trl", rows, "-o", tmp_path / "data")
    assert [image.data for image in pictures(tmp_path / "data")] == [saved(quarters(), "JPEG")] * 3
