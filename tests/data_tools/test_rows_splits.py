"""Folders as they are downloaded: which split a file is of, by its name."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner

from data_tools.adapters.trl import TrlConfig
from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.manifest import read_manifest
from data_tools.rows.open import all_rows, pieces
from data_tools.rows.split import named_split
from data_tools.schema import PreferenceRecord


@pytest.mark.parametrize(
    ("place", "split"),
    [
        ("train.jsonl", "train"),
        ("training-0.parquet", "train"),
        ("valid.json", "validation"),
        ("my_dev.jsonl.gz", "validation"),
        ("val 1.jsonl", "validation"),
        ("validation/a.jsonl", "validation"),
        ("eval.json", "test"),
        ("Testing.json", "test"),
        ("animal_abuse/evaluation-00000-of-00001.parquet", "test"),
        ("data/test-00000-of-00002.parquet", "test"),
        ("data/test_prefs-00000-of-00002.parquet", "test_prefs"),
        ("test/train.jsonl", "train"),  # the file's own name counts first
        ("test/a/b.tar", "test"),
        ("train_test.jsonl", "train"),
        ("latest.jsonl", None),
        ("device/trainer.jsonl", None),
        ("part-00000-of-00002.parquet", None),
        ("contest2.json", None),
    ],
)
def test_names_tell_of_splits(place: str, split: str | None) -> None:
    assert named_split(place) == split


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """A folder with rows of three splits."""
    number = 0
    for name, count in (
        ("train-00000.jsonl", 3),
        ("more/train.jsonl", 1),
        ("validation.json", 1),
        ("test.jsonl", 2),
    ):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"prompt": f"q{n}", "chosen": "a", "rejected": "b", "images": []}
            for n in range(number, number + count)
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        number += count
    return tmp_path / "set"


def splits_of(path: Path, split: str | None) -> Counter[str]:
    items = list(TrlConfig(name="x", path=path, split=split).generate(0))
    assert all(isinstance(item, PreferenceRecord) for item in items)
    return Counter(item.split for item in items if isinstance(item, PreferenceRecord))


def test_a_folder_with_several_asks_for_one(downloaded: Path) -> None:
    with pytest.raises(
        UserError, match=r"set: has the splits test, train, validation; choose one with split, or all"
    ):
        pieces(downloaded)
    assert splits_of(downloaded, "train") == {"train": 4}
    assert splits_of(downloaded, "test") == {"test": 2}
    assert splits_of(downloaded, "all") == {"train": 4, "validation": 1, "test": 2}
    with pytest.raises(UserError, match="has no split 'dev'; it has: test, train, validation"):
        pieces(downloaded, split="dev")


def test_the_same_rows_as_datasets_reads(downloaded: Path) -> None:
    theirs = datasets.load_dataset(
        "json", data_dir=str(downloaded), cache_dir=str(downloaded.parent / "cache")
    )
    for name, rows in theirs.items():
        ours = [
            item[1]["prompt"] for item in all_rows(downloaded, split=str(name)) if isinstance(item, tuple)
        ]
        assert sorted(ours) == sorted(rows["prompt"])
    assert set(theirs) == {"train", "validation", "test"}


def test_files_whose_names_tell_none_beside_others_are_of_train(downloaded: Path) -> None:
    (downloaded / "extra.jsonl").write_text('{"prompt": "q", "chosen": "c", "rejected": "d"}\n')
    assert splits_of(downloaded, "train") == {"train": 5}


def test_a_folder_of_one_split_needs_no_choice(tmp_path: Path) -> None:
    row = '{"prompt": "q", "chosen": "c", "rejected": "d"}\n'
    (tmp_path / "test.jsonl").write_text(row)
    assert splits_of(tmp_path, None) == {"test": 1}
    # the lists of an object are splits by their keys, whatever the file is called
    (tmp_path / "test.jsonl").unlink()
    (tmp_path / "train.json").write_text(json.dumps({"test": [json.loads(row)], "train": []}))
    assert splits_of(tmp_path, "test") == {"test": 1}


def test_a_folder_whose_names_tell_nothing_has_no_splits(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "q", "chosen": "c", "rejected": "d"}\n')
    assert splits_of(tmp_path, None) == {"train": 1}
    with pytest.raises(UserError, match="has no splits, so not 'test' either"):
        pieces(tmp_path, split="test")


def test_convert_leaves_the_records_in_their_splits(downloaded: Path, tmp_path: Path) -> None:
    for split, told in (("train", "4 records"), ("all", "7 records")):
        out = tmp_path / split
        done = CliRunner().invoke(
            app, ["convert", "--from", "auto", str(downloaded), "-o", str(out), "--set", f"split={split}"]
        )
        assert done.exit_code == 0, done.output
        assert told in done.output
    manifest = read_manifest(tmp_path / "all")
    assert {shard.split for shard in manifest.shards} == {"train", "validation", "test"}
