"""The benchmark of conversion: all who take part really do the work on a few records, and ratios known by hand."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import convert
import pytest
from PIL import Image

from data_tools.shards import open_records


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bench") / "rows"
    convert.make_shards(made, records=10, side=6, kind="png")
    return made


def test_rows_are_spread_over_the_shards(source: Path) -> None:
    names = []
    for path in sorted(source.iterdir()):
        with tarfile.open(path) as tar:
            names.append(len(tar.getnames()))
    assert names == [2, 2, 2, 4, 2, 2, 2, 4]  # a JSON and a picture each


def test_the_copy_holds_the_same_members(source: Path, tmp_path: Path) -> None:
    convert.copied(source, tmp_path / "out")
    with (
        tarfile.open(source / "rows-0003.tar") as old,
        tarfile.open(tmp_path / "out" / "rows-0003.tar") as new,
    ):
        assert new.getnames() == ["00000003.json", "00000003.png", "00000004.json", "00000004.png"]
        for name in new.getnames():
            one, other = old.extractfile(name), new.extractfile(name)
            assert one is not None
            assert other is not None
            assert one.read() == other.read()


def test_the_conversion_holds_all_records(source: Path, tmp_path: Path) -> None:
    convert.converted(source, tmp_path / "out", workers=1)
    records = open_records(tmp_path / "out", "train", verify=True)
    assert sorted(record.provenance["idx"] for record in records) == list(range(10))
    data = records[0].images[0].data
    assert data is not None
    assert Image.open(io.BytesIO(data)).size == (6, 6)


def test_datasets_gives_rows_of_the_same_content(source: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    convert.mapped(source, tmp_path / "out", workers=1, decode=False)
    rows = parquet.read_table(tmp_path / "out" / "0.parquet").to_pylist()
    assert len(rows) == 2  # of 10, in 8 files
    assert rows[0]["prompt"][0]["content"][1]["text"] == "What is shown in picture 0?"
    assert Image.open(io.BytesIO(rows[0]["images"][0]["bytes"])).size == (6, 6)


def test_ratios_are_medians_of_rounds_that_count() -> None:
    """The third round stands beside a slow machine."""
    rounds = [
        {
            "ours": convert.Spent(clock, 4.0),
            "tarfile": convert.Spent(2.0, 2.0),
            "datasets": convert.Spent(16.0, 30.0),
        }
        for clock in (2.0, 4.0, 400.0)
    ]
    found = convert.summary(rounds, [100.0, 100.0, 100.0, 20.0], records=80)
    assert json.loads(json.dumps(found)) == {
        "records a second": {"ours": 30.0, "tarfile": 40.0, "datasets": 5.0},
        "cpu seconds": {"ours": 4.0, "tarfile": 2.0, "datasets": 30.0},
        "ours / tarfile": 0.75,
        "ours / datasets": 6.0,
        "rounds": 2,
    }
