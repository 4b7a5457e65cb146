"""Folders of files of rows, names that say what the content doesn't, and what is never opened."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet
from sample_records import png
from tar_files import tar_bytes

from data_tools.adapters.nlvr import NlvrConfig
from data_tools.adapters.trl import TrlConfig
from data_tools.errors import UserError
from data_tools.rows.open import all_rows, passed_over, pieces
from data_tools.schema import PreferenceRecord

PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    parquet.write_table(pa.Table.from_pylist([{"n": 2}]), tmp_path / "b" / "x.parquet")
    (tmp_path / "b" / "y.tar").write_bytes(tar_bytes([("k.json", '{"n": 3}')]))
    (tmp_path / "a.jsonl").write_text('{"n": 1}')
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'[{"n": 4}]'))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text('{"n": 5}\nno')
    rows = list(all_rows(tmp_path))
    assert rows[:5] == [
        ("a.jsonl:1", {"n": 1}),
        ("b/x.parquet[0]", {"n": 2}),
        ("b/y.tar:k", {"n": 3}),
        ("c.json.gz[0]", {"n": 4}),
        ("d/a.jsonl:1", {"n": 5}),
    ]
    assert rows[5].where == "d/a.jsonl:2"  # type: ignore[union-attr]
    assert len(rows) == 6


def test_other_files_of_a_folder_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}')
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "README.md").write_text("[a badge](x)")
    (tmp_path / "LICENSE").write_text("{} is not a row")
    (tmp_path / "x.png").write_bytes(png())
    (tmp_path / "dataset_infos.json").write_text(json.dumps({"default": {"splits": []}}, indent=2))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.jsonl").write_text('{"n": 2}')
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(all_rows(tmp_path)) == [("a.jsonl:1", {"n": 1})]
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(UserError, match=r"no file of rows .*looked for JSON lines .*Parquet.*tars"):
        pieces(tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "only a Git LFS pointer"),
        ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "only a Git LFS pointer"),
        ("x.parquet", b"", "doesn't begin as its name says"),
        ("x.arrow", b'{"a": 1}', "doesn't begin as its name says"),
        ("x.tar", b"x" * 1024, "doesn't begin as its name says"),
        ("x.tar.gz", gzip.compress(b"x" * 1024), "doesn't begin as its name says"),
        ("x.parquet.gz", gzip.compress(b"PAR1"), "a gzipped Parquet or Arrow file; unpack it first"),
    ],
)
def test_a_damaged_file_is_named_also_in_a_folder(name: str, data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}')
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(UserError, match=f"{name}: {why}"):
            pieces(source)


def test_files_of_no_known_form(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data, why in (
        (b"PK\x03\x04\0\0", "packed with zip; unpack it first"),
        (b"\x28\xb5\x2f\xfd\0", "packed with zstd; unpack it first"),
        (b"\0\1\2", "of no form that is read: JSON lines"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=why):
            pieces(path)
    with pytest.raises(UserError, match="No such file"):
        pieces(tmp_path / "none")


def test_links_and_pipes(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    other = rows / ".other"
    other.mkdir(parents=True)
    (other / "a.jsonl").write_text('{"n": 1}')
    (other / "back").symlink_to(rows)
    (rows / "other").symlink_to(other)
    (rows / "b.jsonl").symlink_to(other / "a.jsonl")
    os.mkfifo(rows / "c.jsonl")  # opening it would wait for ever
    assert list(all_rows(rows)) == [("b.jsonl:1", {"n": 1}), ("other/a.jsonl:1", {"n": 1})]
    with pytest.raises(UserError, match=r"c\.jsonl: is a device or a pipe"):
        pieces(rows / "c.jsonl")
    (rows / "d.parquet").symlink_to(rows / "gone")  # as a half-fetched cache has
    with pytest.raises(UserError, match=r"d\.parquet: can't be read \(No such file"):
        pieces(rows)


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    (rows / "below").mkdir(parents=True)
    (rows / "a.jsonl").write_text('{"n": 1}')
    (tmp_path / "secret.env").write_text("TOKEN=1")
    (tmp_path / "home").mkdir()
    for name, target in (("below/b.jsonl", tmp_path / "secret.env"), ("home", tmp_path / "home")):
        (rows / name).symlink_to(target)
        with pytest.raises(
            UserError, match=f"rows/{name}: a link that leads out of the folder .*{target.name}"
        ):
            pieces(rows)
        (rows / name).unlink()
    datasets.Dataset.from_list([{"n": 2}]).save_to_disk(rows / "saved")
    (file,) = (rows / "saved").glob("*.arrow")
    file.rename(tmp_path / "x.arrow")
    file.symlink_to(tmp_path / "x.arrow")
    with pytest.raises(UserError, match="a link that leads out"):
        pieces(rows)


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "datasets--org--name" / "blobs"
    blobs.mkdir()
    (blobs / "123").write_text('{"n": 1}')
    (snapshot / "a.jsonl").symlink_to("../../blobs/123")
    assert list(all_rows(snapshot)) == [("a.jsonl:1", {"n": 1})]
    (tmp_path / "other").write_text('{"n": 1}')
    (snapshot / "b.jsonl").symlink_to("../../../other")
    with pytest.raises(UserError, match=r"b\.jsonl: a link that leads out"):
        pieces(snapshot)


def test_files_that_may_hold_rows_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}')
    (tmp_path / "dataset_info.json").write_text(
        '{"description": "x", "features": {}}'
    )  # one line, yet no row
    (tmp_path / "below").mkdir()
    for name in ("pictures.ZIP", "README.md", "c.csv", "below/d.tsv", ".e.csv"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    assert list(all_rows(tmp_path)) == [("a.jsonl:1", {"n": 1})]
    assert passed_over(tmp_path) == ["below/d.tsv", "c.csv", "pictures.ZIP"]
    assert passed_over(tmp_path / "a.jsonl") == []
    for name in ("b.jsonl.zst", "b.JSON.bz2", "b.parquet.xz", "b.tar.zst"):
        (tmp_path / name).write_bytes(b"(\xb5/\xfd")
        with pytest.raises(UserError, match=f"{name}: rows packed in a way that isn't read here"):
            pieces(tmp_path)
        (tmp_path / name).unlink()


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl")
    Path(path).write_text('{"n": 1}')
    for source in (tmp_path, Path(path)):
        with pytest.raises(UserError, match=r"^'\\udcff\.jsonl': the file's name isn't UTF-8; rename it$"):
            pieces(source)


@pytest.mark.parametrize(
    "source", ["pipe:touch trapped", "https://x.org/a.jsonl", "s3://x/y", "file:///etc/passwd", "PIPE:x/y"]
)
def test_addresses_and_commands_are_never_opened(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is an address or a command, which is never opened"):
        pieces(Path(source))
    assert list(tmp_path.iterdir()) == []


def test_image_paths_are_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    (tmp_path / "rows").mkdir()
    row = {**PAIR, "image": "pictures/a.png"}
    (tmp_path / "rows" / "a.jsonl").write_text(json.dumps(row))
    config = TrlConfig(name="x", path=tmp_path)
    (record,) = config.generate(0)
    assert isinstance(record, PreferenceRecord), record
    assert record.id == "x-rows/a.jsonl:1"
    assert record.images[0].path == str(tmp_path / "pictures" / "a.png")
    assert config.files() == (tmp_path / "rows" / "a.jsonl",)
    assert NlvrConfig(name="n", path=tmp_path).image_root == tmp_path / "images"
    assert NlvrConfig(name="n", path=tmp_path / "dev.json").image_root == tmp_path / "images"


def test_an_adapter_takes_one_split(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"train": [PAIR, PAIR], "test": [PAIR]}))
    config = TrlConfig(name="x", path=tmp_path / "x.json", split="test")
    assert [record.id for record in config.generate(0)] == ["x-x.json:test[0]"]  # type: ignore[union-attr]
    assert [piece.key for piece in config.pieces()] == ["test"]
