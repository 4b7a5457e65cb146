"""What the quarantine keeps of bad rows, and the sum that the commands print."""

from __future__ import annotations

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from damage import bomb
from pyarrow import parquet
from sample_records import png
from typer.testing import CliRunner

from data_tools.build import quarantine
from data_tools.build.quarantine import Quarantine
from data_tools.build.read import Counts
from data_tools.build.reasons import Reasons
from data_tools.cli import app
from data_tools.manifest import read_manifest
from data_tools.source import Rejected


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def pair(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": "yes", "rejected": "no", **more}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def kept(folder: Path, *items: Rejected) -> list[dict[str, Any]]:
    with Quarantine(folder, "s") as written:
        for item in items:
            written.add(item)
    return rows_of(folder)


def test_convert_prints_the_sum(tmp_path: Path) -> None:
    rows: list[Any] = [pair(f"q{n}") for n in range(5)]
    rows += [pair(""), pair("x", chosen="no"), ["list"], pair("y", images=["a.png"])]
    lines(tmp_path / "x.jsonl", rows)
    (tmp_path / "a.png").write_bytes(png()[:-20])
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*arguments, "--max-rejected", "0.5", "--workers", "1"])
    assert done.exit_code == 0, done.exception
    assert done.stdout == (
        f"{tmp_path / 'd'}: built, 5 records\n"
        "  train/preference/text: 5\n"
        "  rejected from trl: 1 x chosen and rejected are the same answer\n"
        "  rejected from trl: 1 x prompt is empty\n"
        "  rejected from trl: 1 x the PNG image is truncated: its end is missing\n"
        "  rejected from trl: 1 x the row is no JSON object\n"
        "  rows of trl: 5 in + 4 quarantined = 9 read\n"
        "  records: 5 kept + 0 duplicates + 0 merged + 0 filtered + 0 dropped = 5 made of these rows\n"
    )
    told = {row["code"]: row for row in rows_of(tmp_path / "d" / "quarantine")}
    assert sorted(told) == ["image-truncated", "row-unreadable", "same-answers", "text-empty"]
    assert told["same-answers"]["row"] == pair("x", chosen="no")
    (image,) = (tmp_path / "d" / "quarantine" / "images" / "image-truncated").iterdir()
    assert image.read_bytes() == png()[:-20]
    assert told["image-truncated"]["image"] == f"images/image-truncated/{image.name}"


def test_build_prints_the_sum_of_each_source_and_of_all(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [pair("q1"), pair("q2"), pair("q1"), pair("")])
    lines(tmp_path / "b.jsonl", [pair("p1"), pair("p2"), pair("p3", rejected=None), 5])
    config = {
        "sources": [
            {"type": "trl", "name": n, "path": str(tmp_path / f"{n}.jsonl"), "splits": {"train": 1.0}}
            for n in ("a", "b")
        ],
        "max_rejected": 0.5,
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    arguments = ["build", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "d"), "--workers", "1"]
    for what in ("built", "already complete, kept"):
        done = CliRunner().invoke(app, arguments)
        assert done.stdout == (
            f"{tmp_path / 'd'}: {what}, 4 records\n"
            "  train/preference/text: 4\n"
            "  rejected from a: 1 x prompt is empty\n"
            "  rejected from b: 1 x has no field rejected\n"
            "  rejected from b: 1 x the row is no JSON object\n"
            "  copies dropped from a: 1\n"
            "  rows of a: 3 in + 1 quarantined = 4 read\n"
            "  rows of b: 2 in + 2 quarantined = 4 read\n"
            "  rows of all: 5 in + 3 quarantined = 8 read\n"
            "  records: 4 kept + 1 duplicates + 0 merged + 0 filtered + 0 dropped = 5 made of these rows\n"
        )


def test_values_that_json_does_not_know(tmp_path: Path) -> None:
    row = {
        "bytes": b"picture",
        "time": datetime(2020, 1, 2, tzinfo=UTC),
        "numbers": [float("nan"), float("-inf"), 1.5, 10**5000, True, None],
        "half\ud800": "\ud83d",
        5: (b"more",),
    }
    (told,) = kept(tmp_path / "q", Rejected("a\nreason\x1b[2J\ud800", "x:1", "field-wrong", row))
    assert (told["reason"], told["where"]) == ("a\\nreason\\x1b[2J\\ud800", "x:1")
    found = told["row"]
    assert (tmp_path / "q" / found["bytes"]).read_bytes() == b"picture"
    assert found["bytes"].startswith("images/field-wrong/")
    assert found["time"] == "2020-01-02 00:00:00+00:00"
    assert found["numbers"][:3] == ["nan", "-inf", 1.5]
    assert found["numbers"][3].startswith("0x")
    assert found["numbers"][4:] == [True, None]
    assert found["half\ud800"] == "\ud83d"
    assert (tmp_path / "q" / found["5"][0]).read_bytes() == b"more"


def test_rows_of_parquet_with_dates_nan_and_bytes(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["q", "", "r"],
            "chosen": ["a", "b", "c"],
            "rejected": ["b", "c", "d"],
            "when": pa.array([datetime(2020, 1, 2)] * 3),
            "score": [1.0, float("nan"), 2.0],
            "raw": [b"1", b"2", b"3"],
        }
    )
    parquet.write_table(table, tmp_path / "x.parquet")
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.parquet"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*arguments, "--max-rejected", "0.5", "--workers", "1"])
    assert "rows of trl: 2 in + 1 quarantined = 3 read" in done.output, done.exception
    (told,) = rows_of(tmp_path / "d" / "quarantine")
    assert (told["row"]["when"], told["row"]["score"]) == ("2020-01-02 00:00:00", "nan")
    assert (tmp_path / "d" / "quarantine" / told["row"]["raw"]).read_bytes() == b"2"


def test_of_a_large_row_a_beginning_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quarantine.MOST_ROW == 4 * 2**20
    monkeypatch.setattr(quarantine, "MOST_ROW", 50_000)
    items = [
        Rejected("r", "x:1", row={"id": 7, "text": "\u00e9" * 200_000_000, "last": "z" * 9}),
        Rejected("r", "x:2", row={"id": 8, "numbers": [0] * 5_000_000, "last": 1}),
        Rejected("r", "x:3", row="{" * 5_000_000),
    ]
    tracemalloc.start()
    text, numbers, line = kept(tmp_path / "q", *items)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # an object and two values count 4 each, and the names id and text their letters: 49,982 are left for the text
    cut = "\u00e9" * 49_982 + " (cut: 199,950,018 more characters)"
    assert text["row"] == {"id": 7, "text": cut, "(cut)": "1 more fields"}
    # the list and a value count 4 each: (50,000 - 4 - 2 - 4 - 7 - 4) / 4 values, rounded up
    expected = [*[0] * 12_495, "(cut: 4,987,505 more values)"]
    assert numbers["row"] == {"id": 8, "numbers": expected, "(cut)": "1 more fields"}
    assert line["row"] == "{" * 49_996 + " (cut: 4,950,004 more characters)"
    assert peak < 2 * 2**20  # the row of 200 million characters isn't copied


def test_nested_rows(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    (told,) = kept(tmp_path / "q", Rejected("r", "x:1", row={"a": deep}))
    assert told["row"] == "nested too deep to be written"
    while isinstance(deep, list):  # Python can't free so deep a value at once in every version
        (deep,) = deep


def test_many_bad_rows_are_written_as_they_come(tmp_path: Path) -> None:
    tracemalloc.start()
    with Quarantine(tmp_path / "q", "s") as folder:
        for number in range(5_000):
            folder.add(Rejected("bad", f"x:{number}", row={"text": "w" * 4000, "n": number}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20  # of 20 MB
    assert folder.reasons.numbers == {"bad": 5_000}
    with (tmp_path / "q" / "rows.jsonl").open() as file:
        assert sum(1 for _ in file) == 5_000


def test_very_many_reasons_are_not_all_told(tmp_path: Path) -> None:
    """Eighty rows, each with a picture in another field, beside three equal faults and one good row."""
    rows = [pair("q", images=[{"bytes": "!", "path": None}])] * 3
    rows += [pair("q", **{f"img{n}": "a.png"}) for n in range(80)] + [pair("good")]
    lines(tmp_path / "x.jsonl", rows)
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*arguments, "--max-rejected", "1", "--workers", "1"])
    assert done.exit_code == 0, done.exception
    rejected = read_manifest(tmp_path / "d").extra["rejected"]["trl"]
    assert (len(rejected), sum(rejected.values())) == (51, 83)
    assert next(iter(rejected.items())) == ("an image's base64 is damaged", 3)
    others = "31 x other reasons (each row's own stands in quarantine/rows.jsonl)"
    assert others in done.output
    told = CliRunner().invoke(app, ["stats", str(tmp_path / "d")])
    assert others in " ".join(told.output.split())


def test_faults_that_differ_in_a_size_are_one_in_all_pieces(tmp_path: Path) -> None:
    counts = Counts()
    for piece in range(3):
        with Quarantine(tmp_path / str(piece), "s") as folder:
            for side in range(9000 + piece, 9002 + piece):
                folder.add(Rejected(f"a picture of {side} x 20,000 pixels", f"{piece}:{side}"))
        counts.add(Counts(2, 2, 0, folder.reasons.numbers, folder.reasons.firsts))
    assert counts.reasons == {"a picture of N x N pixels": 6}
    assert counts.firsts == {"a picture of N x N pixels": "0:9000"}
    assert [row["reason"] for row in rows_of(tmp_path / "2")] == [  # each row's own
        "a picture of 9002 x 20,000 pixels",
        "a picture of 9003 x 20,000 pixels",
    ]


def test_reasons_are_grouped_only_where_they_differ() -> None:
    reasons = Reasons()
    reasons.add("preference is neither 1 nor 2", "a:1")
    reasons.add("preference is neither 1 nor 2", "a:2")
    reasons.add("it doesn't have img1, which isn't read", "a:3")
    reasons.add("it doesn't have img2, which isn't read", "a:4")
    reasons.add("role 'a' of x/y.png is 1.5", "a:5")
    assert list(reasons.items())[-1] == ("role 'a' of x/y.png is 1.5", 1, "a:5")
    reasons.add("role 'b' of x/z.png is 22", "a:6", 3)
    assert list(reasons.items()) == [
        ("preference is neither 1 nor 2", 2, "a:1"),
        ("it doesn't have img1, which isn't read", 1, "a:3"),
        ("it doesn't have img2, which isn't read", 1, "a:4"),
        ("role '...' of ... is N", 4, "a:5"),
    ]


@pytest.mark.parametrize("most", ["0.5", "1"])
def test_where_too_many_are_rejected_the_rows_stay_beside(tmp_path: Path, most: str) -> None:
    bad = [pair("x", chosen="no")] * 3
    good = [pair("q")] if most == "0.5" else []
    lines(tmp_path / "x.jsonl", [*bad, *good])
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*arguments, "--max-rejected", most, "--workers", "1"])
    assert done.exit_code != 0
    left = tmp_path / "d.quarantine"
    said = str(done.exception)
    why = "more than max_rejected = 0.5 allows" if good else "so it gives no record"
    assert f"3 of {3 + len(good)} rows are malformed, {why}:\n  3 x chosen and rejected are the same" in said
    assert f"Each of the rows, with its reason: {left / 'rows.jsonl'}" in said
    assert [row["code"] for row in rows_of(left)] == ["same-answers"] * 3
    assert not (tmp_path / "d").exists()
    lines(tmp_path / "x.jsonl", [pair("q")])
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert not left.exists()  # it was of rows that are no more


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    lines(tmp_path / "x.jsonl", [pair("x", chosen="no")])
    (tmp_path / "d.quarantine").mkdir()
    (tmp_path / "d.quarantine" / "notes.txt").write_text("mine")
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, arguments)
    assert "with its reason" not in str(done.exception)
    assert [path.name for path in (tmp_path / "d.quarantine").iterdir()] == ["notes.txt"]


def test_faults_of_pictures_are_counted_whatever_their_size(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(bomb(9000 + n, 20_000))
    lines(tmp_path / "x.jsonl", [pair("q", images=[f"{n}.png"]) for n in range(4)] + [pair("good")])
    arguments = ["convert", "--from", "trl", str(tmp_path / "x.jsonl"), "-o", str(tmp_path / "d")]
    done = CliRunner().invoke(app, [*arguments, "--max-rejected", "1", "--workers", "1"])
    assert done.exit_code == 0, done.exception
    rejected = read_manifest(tmp_path / "d").extra["rejected"]["trl"]
    assert rejected == {"the image has more than 40,000,000 pixels": 4}
