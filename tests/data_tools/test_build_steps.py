"""A build gives the same bytes wherever its steps are worked on, however its input is divided, and however often it was
killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from sample_records import image_record, png, text_record
from typer.testing import CliRunner

from data_tools.adapters.base import FileSource, RowError
from data_tools.adapters.shards import ShardsConfig
from data_tools.build import ConvertConfig, DataConfig, build, convert
from data_tools.build.plan import twins
from data_tools.build.work import Work
from data_tools.build.write import shuffled
from data_tools.cli import app
from data_tools.config import dump_yaml, parse_config
from data_tools.errors import UserError
from data_tools.executor import LocalExecutor
from data_tools.manifest import read_manifest
from data_tools.parts.view import Remedy, View
from data_tools.rows import form as rows_form
from data_tools.rows.text import line_pieces
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response
from data_tools.shards import open_records, write_shards
from data_tools.source import Read, Rejected, Source
from data_tools.stats import stats
from data_tools.tar import scan

ROOT = Path(__file__).resolve().parents[2]


def all_bytes(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.fixture
def mixture(tmp_path: Path) -> DataConfig:
    """Text rows with copies, contradictions, bad rows and an id that stands twice, and pictures."""
    rows: list[Any] = [{"prompt": f"q{n % 50}", "chosen": "yes", "rejected": "no"} for n in range(60)]
    rows += [{"prompt": f"q{n}", "chosen": "no", "rejected": "yes"} for n in range(5)]
    rows += [{"prompt": "", "chosen": "a", "rejected": "b"}, ["no", "object"]]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{not json\n")
    (tmp_path / "pictures").mkdir()
    pictures = []
    for number in range(12):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png((number, 9, 9)))
        picture = {"prompt": f"what? {number}", "chosen": "a", "rejected": "b", "images": [f"{number}.png"]}
        pictures.append(picture)
    (tmp_path / "pictures" / "rows.jsonl").write_text("\n".join(map(json.dumps, pictures)))
    sources = [
        {"type": "trl", "name": "words", "path": str(tmp_path / "rows.jsonl"), "objective": "helpfulness"},
        {"type": "trl", "name": "pictures", "path": str(tmp_path / "pictures" / "rows.jsonl")},
        {"type": "flip_pairs", "count": 6},
    ]
    row = {
        "sources": sources,
        "shard_records": 10,
        "balance": {"modality": {"text": 0.5}},
        "max_rejected": 0.1,
        "audit": {"only": ["length", "labels", "copies"]},
    }
    return parse_config(row, DataConfig, "test")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are divided into pieces of about 200 bytes."""
    monkeypatch.setattr(rows_form, "line_pieces", lambda path, place: line_pieces(path, place, 200))


def test_pieces_and_processes_dont_show(
    mixture: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = build(mixture, tmp_path / "whole")
    assert report.rows["words"] == {"read": 68, "in": 65, "quarantined": 3}
    # ten rows are repeated; five more say the contrary of what an earlier one says
    assert (report.made, report.duplicates, report.merged) == (65 + 12 + 12, {"words": 10}, {"words": 5})
    assert report.records == report.made - 15 - sum(report.dropped.values())
    build(mixture, tmp_path / "processes", executor=LocalExecutor(2))
    assert all_bytes(tmp_path / "processes") == all_bytes(tmp_path / "whole")
    monkeypatch.setattr(rows_form, "line_pieces", lambda path, place: line_pieces(path, place, 200))
    assert len(mixture.sources[0].pieces()) > 10
    build(mixture, tmp_path / "pieces")
    assert all_bytes(tmp_path / "pieces") == all_bytes(tmp_path / "whole")
    build(mixture.model_copy(update={"seed": 1}), tmp_path / "other")
    assert all_bytes(tmp_path / "other") != all_bytes(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from data_tools.build import DataConfig, build
from data_tools.config import load_config
from data_tools.rows import form as rows_form
from data_tools.rows.text import line_pieces

rows_form.line_pieces = lambda path, place: line_pieces(path, place, 200)
config, out, left = load_config(sys.argv[1], DataConfig), sys.argv[2], int(sys.argv[3])
seen = 0

def count(event, arguments):
    global seen
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link"):
        if any(isinstance(a, str | os.PathLike) and Path(out).name in os.fspath(a) for a in arguments):
            seen += 1
            if seen == left:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
build(config, out, resume=True)
print(seen)
"""


def test_ten_kills_leave_no_trace(mixture: DataConfig, tmp_path: Path, small_pieces: None) -> None:
    """The process is killed before it opens, renames or removes some file of its own, at random."""
    (tmp_path / "c.yaml").write_text(dump_yaml(mixture))

    def attempt(name: str, left: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / "c.yaml"), str(tmp_path / name), str(left)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)

    clean = attempt("clean", -1)
    assert clean.returncode == 0, clean.stderr
    steps = int(clean.stdout)
    assert steps > 200
    chance = random.Random(7)
    work = Work(tmp_path / "often_killed")
    finished: dict[str, int] = {}
    for _ in range(10):
        done = attempt("often_killed", chance.randint(2, steps // 8))
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (tmp_path / "often_killed").exists()
        now = {
            str(path): path.stat().st_mtime_ns
            for folder in (work.parts, work.told)
            for path in folder.glob("[!.]*")
        }
        assert finished.items() <= now.items()  # nothing that was finished is made again
        finished = now
    assert len(finished) > 10
    assert attempt("often_killed", -1).returncode == 0
    assert all_bytes(tmp_path / "often_killed") == all_bytes(tmp_path / "clean")
    assert not work.folder.exists()


@pytest.mark.slow
def test_a_kill_of_several_processes(mixture: DataConfig, tmp_path: Path, small_pieces: None) -> None:
    (tmp_path / "c.yaml").write_text(dump_yaml(mixture))
    out = tmp_path / "d"
    code = (
        "import sys\nfrom data_tools.build import DataConfig, build\nfrom data_tools.config import load_config\n"
        "from data_tools.executor import LocalExecutor\n"
        "from data_tools.rows import form as rows_form\nfrom data_tools.rows.text import line_pieces\n"
        "rows_form.line_pieces = lambda path, place: line_pieces(path, place, 200)\n"
        "build(load_config(sys.argv[1], DataConfig), sys.argv[2], executor=LocalExecutor(2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "c.yaml"), str(out)], env=environment
    )
    work = Work(out)
    deadline = time.monotonic() + 60
    while not list(work.parts.glob("[!.]*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    with pytest.raises(UserError, match="unfinished; go on with --resume, or add --overwrite"):
        build(mixture, out)
    with pytest.raises(UserError, match="the unfinished build is of another config, so it can't be"):
        build(mixture.model_copy(update={"seed": 5}), out, resume=True)
    build(mixture, out, resume=True)
    build(mixture, tmp_path / "clean")
    assert all_bytes(out) == all_bytes(tmp_path / "clean")


def test_two_builds_dont_share_a_folder(mixture: DataConfig, tmp_path: Path) -> None:
    with Work(tmp_path / "d").held(), pytest.raises(UserError, match="another process is building"):
        build(mixture, tmp_path / "d")
    assert build(mixture, tmp_path / "d").records > 0


class Given(Source):
    """Records that the test lays into `HELD`."""

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        return iter(())

    def read(self, seed: int, piece: object = None) -> Iterator[Read]:
        yield from HELD


HELD: list[Read] = []
GIVEN = {"type": f"{__name__}:Given", "name": "given", "splits": {"train": 1.0}}


def given(*reads: Read, **changes: object) -> DataConfig:
    HELD[:] = reads
    return parse_config({"sources": [GIVEN], "max_rejected": 0.9, **changes}, DataConfig, "test")


def record(number: int, **changes: Any) -> PreferenceRecord:
    return text_record(number, source="given", **changes)


def test_the_quarantine_holds_what_was_wrong(tmp_path: Path) -> None:
    row = {"image": {"bytes": b"GIF"}, "n": float("nan"), "half": "\ud800", 3: [b"GIF", (1, None)]}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    reads = [
        (record(0),),
        Rejected("no picture", "f:1", "image-format", row, b"the bytes"),
        Rejected("too deep", "f:2", "field-wrong", deep),
        (record(1), record(0)),  # an id of an earlier row
        (record(2), record(2, reference={"x": float("nan")})),
    ]
    report = build(given(*reads), tmp_path / "d")
    assert report.rows == {"given": {"read": 5, "in": 1, "quarantined": 4}}
    assert (report.made, report.records) == (1, 1)
    folder = tmp_path / "d" / "quarantine"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [(row["code"], row["where"]) for row in rows] == [
        ("image-format", "f:1"),
        ("field-wrong", "f:2"),
        ("schema", "t2"),
        ("id-twice", "t0"),
    ]
    gif = rows[0]["row"]["image"]["bytes"]
    assert rows[0]["row"] == {"image": {"bytes": gif}, "n": "nan", "half": "\ud800", "3": [gif, [1, None]]}
    assert (folder / gif).read_bytes() == b"GIF"
    assert (folder / rows[0]["image"]).read_bytes() == b"the bytes"
    assert rows[0]["image"].startswith("images/image-format/")
    assert rows[1]["row"] == "nested too deep to be written"
    assert rows[3]["row"]["prompt"][0]["content"][0]["text"] == "question 0"
    assert report.rejected["given"]["another row has the same id"] == 1


def test_rows_whose_id_stands_twice() -> None:
    #  row:     0  1  1  2  3  3  4  4
    ids = np.array([5, 6, 7, 6, 8, 8, 8, 9])
    # row 2 repeats row 1, row 3 itself; so row 4, which repeats only a row that is none, stays
    assert twins(np.array([0, 1, 1, 2, 3, 3, 4, 4]), ids) == {2: 3, 3: 5}


def test_a_row_that_cant_be_written_is_no_error_of_the_whole(tmp_path: Path) -> None:
    missing = image_record(3, source="given", images=(ImageRef(path="no.png"), ImageRef(path="nor.png")))
    report = build(given((record(1),), (missing,)), tmp_path / "d")
    assert report.rejected == {"given": {"no such image file": 1}}
    with pytest.raises(UserError, match="2 of 3 rows are malformed"):
        build(given((record(1),), (missing,), Rejected("x", "y"), max_rejected=0.5), tmp_path / "e")
    assert not Work(tmp_path / "e").folder.exists()  # the input must change anyway


def test_a_picture_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    wrong = ImageRef(path=str(tmp_path / "a.png"), sha256="0" * 64)
    both = (ImageRef(path=str(tmp_path / "a.png")), wrong)
    with pytest.raises(UserError, match=r"a\.png: has changed since it was indexed"):
        build(given((image_record(1, source="given", images=both),)), tmp_path / "d")


def test_the_order_of_answers_says_nothing(tmp_path: Path) -> None:
    """The better answer is the first in every row; both of a flip pair keep one order."""
    rows = [(record(n, comparisons=(Comparison("h", 0, 1),)),) for n in range(200)]
    rows += [
        (image_record(n, source="given", responses=(Response("yes"), Response("no"))[:: 1 - 2 * (n % 2)]),)
        for n in range(40)
    ]
    build(given(*rows), tmp_path / "d")
    found = open_records(tmp_path / "d", "train")
    words = [r for r in found if r.modality == "text"]
    assert 70 < sum(r.comparisons[0].better for r in words) < 130
    assert all(r.responses[r.comparisons[0].better].text == "good" for r in words)
    pairs: dict[str, list[PreferenceRecord]] = {}
    for r in found:
        if "flip" in r.provenance:
            pairs.setdefault(r.provenance["flip"], []).append(r)
    assert all(a.responses == b.responses for a, b in pairs.values())
    assert {a.responses[0].text for a, _ in pairs.values()} == {"yes", "no"}
    build(given(*rows, shuffle_responses=False), tmp_path / "e")
    kept = open_records(tmp_path / "e", "train")
    assert all(r.comparisons[0].better == 0 for r in kept if r.modality == "text")
    three = record(0, responses=tuple(map(Response, "abc")), comparisons=(Comparison("h", 2, 0),))
    orders = {"".join(r.text for r in shuffled(three, seed).responses) for seed in range(60)}
    assert len(orders) == 6


class Longer(Remedy):
    """Drops records whose question has a number over `most`."""

    most: int

    def apply(self, view: View, seed: int) -> None:
        assert set(view.source) == {"given"}
        assert list(view["chosen"]) == [4] * len(view)
        questions = [row["prompt"][0]["content"][0]["text"] for row in view.rows()]
        view.drop(np.array([int(text.split()[1]) > self.most for text in questions]), f"over {self.most}")
        assert len(view) == self.most + 1
        with pytest.raises(ValueError, match="a mask of shape"):
            view.drop(np.zeros(len(view) + 1), "x")


def test_a_remedy_of_ones_own(tmp_path: Path) -> None:
    remedies = [{"type": f"{__name__}:Longer", "most": most} for most in (6, 3)]
    report = build(given(*((record(n),) for n in range(10)), remedies=remedies), tmp_path / "d")
    assert (report.records, report.filtered) == (4, {"given: over 3": 3, "given: over 6": 3})
    assert {r.id for r in open_records(tmp_path / "d", "train")} == {"t0", "t1", "t2", "t3"}
    with pytest.raises(UserError, match="Given is not made from"):
        given(remedies=[GIVEN])


def converted(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["convert", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_convert_keeps_the_rows_as_they_are(mixture: DataConfig, tmp_path: Path, small_pieces: None) -> None:
    path = str(tmp_path / "rows.jsonl")
    told = converted("--from", "trl", path, "-o", str(tmp_path / "d"), "--workers", "1")
    assert "rows of trl: 65 in + 3 quarantined = 68 read" in told
    records = open_records(tmp_path / "d", "train", verify=True)
    assert [r.id for r in records] == [f"trl-rows.jsonl:{n}" for n in range(1, 66)]
    assert all(r.comparisons[0].better == 0 for r in records)
    assert json.loads((tmp_path / "d" / "stats.json").read_text()) == stats(tmp_path / "d")
    assert "already complete, kept" in converted(
        "--from", "trl", path, "-o", str(tmp_path / "d"), "--workers", "1"
    )
    shards = sorted((tmp_path / "d").glob("*.tar"))
    keys = [member.name for shard in shards for member in scan(shard) if member.name.endswith(".json")]
    assert len(set(keys)) == 65
    pictures = str(tmp_path / "pictures" / "rows.jsonl")
    converted(
        *("--from", "trl", pictures, "-o", str(tmp_path / "p"), "--workers", "1"),
        *("--limit", "5", "--images", str(tmp_path / "pictures"), "--set", "name=seen"),
    )
    seen = open_records(tmp_path / "p", "train")
    assert [r.images[0].data for r in seen] == [png((n, 9, 9)) for n in range(5)]
    assert seen[0].source == "seen"
    wrong = CliRunner().invoke(app, ["convert", "--from", "trll", path, "-o", str(tmp_path / "x")])
    assert "Did you mean 'trl'?" in str(wrong.exception)


PAIRS = {
    split: [{"prompt": f"{split} {n}", "chosen": "a", "rejected": "b"} for n in range(count)]
    for split, count in (("train", 3), ("validation", 2), ("test", 1))
}


def counts(directory: Path) -> dict[str, int]:
    return read_manifest(directory).counts


def test_convert_leaves_records_in_the_split_of_the_data_set(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(PAIRS))
    both = ("--from", "trl", str(path), "--set", "split=all")
    converted(*both, "-o", str(tmp_path / "a"))
    expected = {
        "test/preference/text": 1,
        "train/preference/text": 3,
        "validation/preference/text": 2,
    }
    assert counts(tmp_path / "a") == expected
    assert [r.prompt[0].text for r in open_records(tmp_path / "a", "test")] == ["test 0"]
    converted(*both, "-o", str(tmp_path / "limited"), "--limit", "4")  # read as one piece
    assert counts(tmp_path / "limited") == {"train/preference/text": 3, "validation/preference/text": 1}
    # what the user says comes first
    converted(*both, "-o", str(tmp_path / "b"), "--set", "splits={held_out: 1.0}")
    assert counts(tmp_path / "b") == {"held_out/preference/text": 6}
    # a data directory stays as it is
    converted("--from", "auto", str(tmp_path / "a"), "-o", str(tmp_path / "again"))
    assert counts(tmp_path / "again") == expected
    path.write_text(json.dumps({"data": PAIRS["test"]}))  # the name of no split
    converted("--from", "trl", str(path), "-o", str(tmp_path / "c"))
    assert counts(tmp_path / "c") == {"train/preference/text": 1}
    # a build draws them
    path.write_text(json.dumps(PAIRS))
    source = {"type": "trl", "name": "x", "path": str(path), "split": "all", "splits": {"train": 1.0}}
    report = build(parse_config({"sources": [source]}, DataConfig, "test"), tmp_path / "built")
    assert report.counts == {"train/preference/text": 6}


def test_from_auto_reads_the_split_that_is_named(tmp_path: Path) -> None:
    saved = {split: datasets.Dataset.from_list(rows) for split, rows in PAIRS.items()}
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "d")
    told = converted(
        *("--from", "auto", str(tmp_path / "d"), "-o", str(tmp_path / "a")), "--set", "split=test"
    )
    assert "taken for trl: 1 of the first 1 rows" in told
    assert counts(tmp_path / "a") == {"test/preference/text": 1}


def test_convert_tells_of_files_that_it_passes_over(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.jsonl").write_text("\n".join(map(json.dumps, PAIRS["train"])))
    for number in range(7):
        (tmp_path / "d" / f"{number}.csv").write_text("prompt,chosen,rejected")
    told = converted("--from", "trl", str(tmp_path / "d"), "-o", str(tmp_path / "o"))
    assert "trl: in its folder, not read: 0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 2 more\n" in told
    again = converted("--from", "trl", str(tmp_path / "d"), "-o", str(tmp_path / "o"))
    assert "already complete, kept" in again
    assert "not compared" not in again  # there are no pictures


def test_pictures_in_files_are_told_to_be_not_compared(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    row = {"prompt": "what?", "chosen": "a", "rejected": "b", "images": ["a.png"]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    arguments = ("--from", "trl", str(tmp_path / "rows.jsonl"), "-o", str(tmp_path / "o"))
    assert "not compared" not in converted(*arguments)
    told = "not compared with what it was made from: pictures that rows name as files; after"
    assert told in converted(*arguments)


def test_small_row_groups_become_one_shard(tmp_path: Path) -> None:
    rows = pyarrow.Table.from_pylist(PAIRS["train"])
    parquet.write_table(rows, tmp_path / "r.parquet", row_group_size=1)
    converted("--from", "trl", str(tmp_path / "r.parquet"), "-o", str(tmp_path / "d"))
    assert [shard.records for shard in read_manifest(tmp_path / "d").shards] == [3]


def test_convert_reads_parquet(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": str(n), "rejected": "b", "images": [{"bytes": png((n, 0, 0))}]}
        for n in range(3)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    converted("--from", "trl", str(tmp_path / "r.parquet"), "-o", str(tmp_path / "d"))
    assert [r.images[0].data for r in open_records(tmp_path / "d", "train")] == [
        png((n, 0, 0)) for n in range(3)
    ]


class Numbered(FileSource):
    """Rows with an id, and with a split of their own."""

    def convert(self, row: dict[str, Any], where: str) -> tuple[PreferenceRecord, ...]:
        if row["id"] < 0:
            raise RowError("negative")
        changes: dict[str, Any] = {"provenance": {"split": row["split"]}} if "split" in row else {}
        found = text_record(row["id"], source=self.name, **changes)
        return (found, image_record(row["id"], source=self.name)) if row.get("two") else (found,)


def test_convert_leaves_out_ids_that_stand_twice(tmp_path: Path, small_pieces: None) -> None:
    rows: list[dict[str, Any]] = [{"id": n, "two": n % 3 == 0, "pad": "x" * 60} for n in range(9)]
    rows += [{"id": 3, "two": True}, {"id": 8}, {"id": -1}, {"id": 20, "split": "held_out"}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"type": f"{__name__}:Numbered", "name": "n", "path": str(tmp_path / "r.jsonl")}
    row = {"source": source, "max_rejected": 0.5, "shard_records": 2}
    config = parse_config(row, ConvertConfig, "test")
    report = convert(config, tmp_path / "d")
    assert report.rows == {"n": {"read": 13, "in": 10, "quarantined": 3}}
    assert (report.records, report.made) == (13, 13)
    assert report.rejected == {"n": {"another row has the same id": 2, "negative": 1}}
    train = open_records(tmp_path / "d", "train", verify=True)
    assert sorted(r.id for r in train) == sorted([f"t{n}" for n in range(9)] + ["i0", "i3", "i6"])
    assert [r.id for r in open_records(tmp_path / "d", "held_out")] == ["t20"]
    quarantined = (tmp_path / "d" / "quarantine" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["where"] for line in quarantined] == ["r.jsonl:12", "t3", "t8"]
    assert json.loads((tmp_path / "d" / "stats.json").read_text()) == stats(tmp_path / "d")
    convert(config, tmp_path / "e", executor=LocalExecutor(2))
    assert all_bytes(tmp_path / "e") == all_bytes(tmp_path / "d")


def test_a_data_directory_is_a_source(tmp_path: Path) -> None:
    records = [*(text_record(n) for n in range(3)), image_record(1, id="t1"), image_record(0, id="t2")]
    records.append(text_record(9, split="test"))
    write_shards(records, tmp_path / "d", max_records=2)
    source = {"type": "shards", "name": "again", "path": str(tmp_path / "d"), "keep_splits": True}
    config = parse_config({"sources": [source], "shuffle_responses": False}, DataConfig, "test")
    report = build(config, tmp_path / "e", executor=LocalExecutor(2))
    assert report.counts == {
        "test/preference/text": 1,
        "train/preference/image-text": 2,
        "train/preference/text": 3,
    }
    found = {r.id: r for split in ("train", "test") for r in open_records(tmp_path / "e", split)}
    assert set(found) == {"words/t0", "words/t1", "words/t2", "words/t9", "pictures/t1", "pictures/t2"}
    assert found["pictures/t1"].images == records[3].images
    assert found["pictures/t1"].provenance == {"flip": "pictures/f0", "split": "train"}
    assert {r.source for r in found.values()} == {"again"}
    (tar,) = (tmp_path / "d").glob("pictures-*.tar")
    tar.write_bytes(tar.read_bytes().replace(b'"t1"', b'"t1\x01'))
    reads = list(ShardsConfig(name="again", path=tmp_path / "d").read(0))
    assert [item.code for item in reads if isinstance(item, Rejected)] == ["row-unreadable"]
