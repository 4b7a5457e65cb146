from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow.parquet import ParquetFile
from sample_records import image_record, png, text_record
from typer.testing import CliRunner

from data_tools import export as module
from data_tools.adapters.trl import TrlConfig
from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.export import export
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Ranking, Rating, Response, user
from data_tools.shards import write_shards

EXTRA = {
    "files": [
        {"source": "words", "path": "/home/somebody/secret/words.jsonl", "bytes": 3, "sha256": "ab" * 32}
    ],
    "rejected": {"words": {"has no field prompt": 2}},
    "duplicates": {"words": 4},
}


def records() -> list[PreferenceRecord]:
    yes = Rating("safety", 0, value=1, low=0, high=1, kind="binary")
    no = Rating("safety", 1, value=0, low=0, high=1, kind="binary")
    return [
        text_record(0),
        text_record(1, comparisons=(Comparison("helpfulness", 0, 1, tie=True),), ratings=(yes, no)),
        text_record(2, ratings=(Rating("helpfulness", 0, value=3, low=1, high=5),), split="held-out"),
        text_record(
            3,
            responses=(Response("one"), Response("two"), Response("three")),
            comparisons=(),
            rankings=(Ranking("helpfulness", ((2,), (0, 1))),),
        ),
        *(image_record(number) for number in range(3)),
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_shards(records(), tmp_path / "d", extra=EXTRA)
    return tmp_path / "d"


def test_our_own_adapter_reads_the_same_preferences(data: Path, tmp_path: Path) -> None:
    report = export(data, tmp_path / "out", objective="factuality")
    assert report.rows == {("train", "pictures", "image-text", "factuality"): 3}
    (path,) = sorted((tmp_path / "out" / "data" / "train").iterdir())
    reads = list(TrlConfig(name="back", path=path, objective="factuality").read(0))
    assert len(reads) == 3
    for number, read in enumerate(reads):
        assert isinstance(read, tuple)
        (found,) = read
        expected = image_record(number)
        assert found.prompt == expected.prompt
        assert [image.data for image in found.images] == [image.data for image in expected.images]
        (comparison,) = found.comparisons
        assert (found.responses[comparison.better].text, found.responses[comparison.worse].text) == (
            "no",
            "yes",
        )


def load(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_datasets_reads_rows_and_images(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = export(data, tmp_path / "out")
    found = load(tmp_path / "out", tmp_path / "cache", monkeypatch)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 6, "held_out": 1}
    assert report.left_out == {"ties": 2, "ratings": 3, "records that gave no row": 1}
    rows = {(row["id"], row["chosen"][0]["content"][0]["text"]): row for row in found["train"]}
    words = rows["t0", "good"]
    assert words["prompt"] == [
        {"role": "user", "content": [{"type": "text", "text": "question 0"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "what?"}]},
        {"role": "user", "content": [{"type": "text", "text": "again"}]},
    ]
    assert words["rejected"] == [{"role": "assistant", "content": [{"type": "text", "text": "bad"}]}]
    assert words["images"] == []
    assert (words["objective"], words["source"]) == ("helpfulness", "words")
    # of a ranking, the best against each of the two that are tied
    ranked = [row for row in found["train"] if row["id"] == "t3"]
    assert [row["chosen"][0]["content"][0]["text"] for row in ranked] == ["three", "three"]
    assert [row["rejected"][0]["content"][0]["text"] for row in ranked] == ["one", "two"]
    picture = rows["i2", "no"]
    assert [part["type"] for part in picture["prompt"][0]["content"]] == ["image", "text", "image", "text"]
    assert [image.getpixel((0, 0)) for image in picture["images"]] == [(2, 0, 0), (0, 2, 0)]


def test_yes_or_no_becomes_rows_of_their_own(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = export(data, tmp_path / "out", form="trl-kto")
    assert report.rows == {("train", "words", "text", "safety"): 2}
    assert report.left_out["comparisons"] == 1 + 1 + 1 + 3 + 3
    assert report.left_out["ratings on a scale"] == 1
    found = load(tmp_path / "out", tmp_path / "cache", monkeypatch)["train"]
    assert [(row["completion"][0]["content"][0]["text"], row["label"]) for row in found] == [
        ("good", True),
        ("bad", False),
    ]
    (path,) = (tmp_path / "out" / "data" / "train").iterdir()
    reads = list(TrlConfig(name="back", path=path, objective="safety").read(0))
    assert [read[0].ratings[0].value for read in reads if isinstance(read, tuple)] == [1.0, 0.0]


def test_the_card(data: Path, tmp_path: Path) -> None:
    export(data, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    row = yaml.safe_load(head)
    assert row["license"] == "unknown"
    assert row["size_categories"] == ["n<1K"]
    assert row["configs"][0]["data_files"] == [
        {"split": "held_out", "path": "data/held_out/*.parquet"},
        {"split": "train", "path": "data/train/*.parquet"},
    ]
    assert "| train | pictures | image-text | factuality | 3 |" in body
    assert "| held-out | words | text | helpfulness | 1 |" in body
    assert "- words: read from words.jsonl (sha256 abababababababab)" in body
    assert "- pictures: made by a recipe, not read from files" in body
    assert "- Rejected from words: 2 x has no field prompt" in body
    assert "- Copies dropped from words: 4" in body
    assert "- By the export, ties: 2" in body
    assert "Not known: whoever exported this set named none." in body
    assert "somebody" not in text
    export(data, tmp_path / "again", license="cc-by-4.0")
    text = (tmp_path / "again" / "README.md").read_text()
    assert "\nlicense: cc-by-4.0\n" in text
    assert text.endswith("## Licence\n\ncc-by-4.0\n")


def test_rows_come_in_small_groups_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards([image_record(number) for number in range(250)], tmp_path / "d")
    monkeypatch.setattr(module, "GROUP_ROWS", 100)
    export(tmp_path / "d", tmp_path / "out")
    file = ParquetFile(tmp_path / "out" / "data" / "train" / "00000.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [100, 100, 50]
    # with the words, and, differ?, yes and no
    size = sum(len(image.data or b"") for image in image_record(0).images) + 15
    monkeypatch.setattr(module, "GROUP_BYTES", 20 * size)
    monkeypatch.setattr(module, "FILE_BYTES", 100 * size)
    export(tmp_path / "d", tmp_path / "more")
    names = sorted(path.name for path in (tmp_path / "more" / "data" / "train").iterdir())
    rows = [ParquetFile(tmp_path / "more" / "data" / "train" / name).metadata.num_rows for name in names]
    assert names == [f"{number:05d}.parquet" for number in range(len(names))]
    assert sum(rows) == 250
    assert all(90 <= number <= 130 for number in rows[:-1])


def test_texts_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = (Response("x" * 900), Response("y" * 80))
    write_shards([text_record(number, responses=long) for number in range(40)], tmp_path / "d")
    monkeypatch.setattr(module, "GROUP_BYTES", 5_000)
    monkeypatch.setattr(module, "FILE_BYTES", 10_000)
    export(tmp_path / "d", tmp_path / "out")
    rows = [ParquetFile(path).metadata.num_rows for path in (tmp_path / "out" / "data" / "train").iterdir()]
    assert sorted(rows) == [10, 10, 10, 10]  # of some 1,000 bytes each


def test_it_appears_whole_or_not_at_all(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in (
        ({"split": "val"}, "has no split 'val'; it has: held-out, train"),
        (
            {"objective": "truth"},
            "no comparison but ties on 'truth'; objectives with such: factuality, helpf",
        ),
        ({"form": "trl-kto", "objective": "helpfulness"}, "no yes or no on 'helpfulness'; .*: safety"),
    ):
        with pytest.raises(UserError, match=message):
            export(data, tmp_path / "out", **arguments)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
    path = next(data.glob("pictures*"))
    whole = path.read_bytes()
    image = image_record(1).images[0].data or b""
    path.write_bytes(whole.replace(image, image[:-1] + b"?", 1))
    with pytest.raises(UserError, match="an image is damaged"):
        export(data, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("")
    with pytest.raises(UserError, match="exists already"):
        export(data, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_equal_answers_give_no_row(tmp_path: Path) -> None:
    same = text_record(0, responses=(Response("a"), Response("a")))
    hostile = text_record(1, source="words", comparisons=(Comparison("a|b\n# c", 0, 1),))
    picture = image_record(
        0, prompt=(user(0, "?"),), images=(ImageRef.of_bytes(png()),), scenes=(), source="words"
    )
    write_shards([same, hostile, picture], tmp_path / "d")
    report = export(tmp_path / "d", tmp_path / "out")
    assert report.left_out == Counter(
        {"comparisons of an answer with itself": 1, "records that gave no row": 1}
    )
    assert "| train | words | text | a\\|b # c | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_the_command(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(data), "--to", "trl", "-o", str(out), "--split", "train"])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{out}: 6 rows",
        "  train/pictures/image-text/factuality: 3",
        "  train/words/text/helpfulness: 3",
        "  left out, ratings: 2",
        "  left out, records that gave no row: 1",
        "  left out, ties: 2",
    ]
    help_text = re.sub(r"\s+", " ", CliRunner().invoke(app, ["export", "--help"]).stdout)
    assert "trl-kto" in help_text
