"""Whole conversions and builds of damaged input: nothing but UserError is raised, and no row is lost uncounted.

2,060 cases in an ordinary run, the same every time: 6 forms x 150 of damaged rows, 6 x 100 of damaged files, 3 x 120 of
damaged images and 200 of mixtures. FUZZ_TIMES=10 takes ten times as many (20,600), drawn anew each time.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from damage import LINES, PICTURES, STRIKES, damaged, pictures, struck
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tar_files import tar_bytes

from data_tools.adapters import ADAPTERS
from data_tools.build import BuildReport, ConvertConfig, DataConfig, build, convert
from data_tools.check import check
from data_tools.config import parse_config
from data_tools.errors import UserError
from data_tools.images import decode_image
from data_tools.manifest import read_manifest
from data_tools.rows.open import all_rows
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records
from data_tools.source import CODES, Rejected

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
FIXTURES = Path(__file__).resolve().parent / "fixtures"
TYPES = [str(adapter.model_fields["type"].default) for adapter in ADAPTERS]


def cases(number: int) -> settings:
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=timedelta(seconds=20),  # of one case; one that hangs fails
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about power cuts, and syncing is most of the time of a small data set."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


# --- the input


def rows_of(path: Path) -> list[dict[str, Any]]:
    found = [item[1] for item in all_rows(path) if not isinstance(item, Rejected)]
    return [row for row in found if isinstance(row, dict)]


SETS = {path.name: rows_of(path) for path in sorted(FIXTURES.glob("*.json*"))}
SETS["columns"] = [
    {
        "ask": "What is it?",
        "pic": "images/red.png",
        "good": "Red.",
        "bad": ["Blue.", "Grey."],
        "meta": {"right": "red"},
    },
    {
        "ask": [{"role": "user", "content": "Name a gas."}],
        "pic": None,
        "good": "Neon.",
        "bad": "Salt.",
        "meta": {"right": 3},
    },
]
SETTINGS = {
    "columns": {
        "prompt": "ask",
        "image": "pic",
        "chosen": "good",
        "rejected": "bad",
        "reference": "meta.right",
    },
    # so that the ids tell the places
    **{kind: {"answers": "last"} for kind in ("messages", "sharegpt", "llamafactory")},
}


def type_of(name: str) -> str:
    """The adapter of a fixture, which is named after it."""
    return max((kind for kind in TYPES if name.startswith(kind)), key=len)


@st.composite
def row_sets(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A format and up to five rows of it, of which most are damaged and some stand twice."""
    name = draw(st.sampled_from(sorted(SETS)))
    rows: list[Any] = draw(st.lists(st.sampled_from(SETS[name]), min_size=1, max_size=5))
    for place, row in enumerate(rows):
        for _ in range(draw(st.integers(0, 2))):
            row = damaged(draw, row) if isinstance(row, dict) else row
        rows[place] = row
    return type_of(name), rows


def as_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_tar(rows: list[Any]) -> bytes:
    return tar_bytes([(f"{number:04d}.json", json.dumps(row)) for number, row in enumerate(rows)])


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _table(rows: list[Any]) -> pa.Table:
    """The rows as columns; a field that these can't hold as it is becomes text, as in a data set that was saved so."""
    good = [row if isinstance(row, dict) else {"value": row} for row in rows]
    columns: dict[str, pa.Array] = {}
    for key in {key: None for row in good for key in row}:
        values = [row.get(key) for row in good]
        try:
            # pyarrow takes time and memory without bounds to make a table of values that are nested some hundreds deep
            columns[key] = pa.array(values if _depth(values) < 20 else list(map(json.dumps, values)))
        except (pa.ArrowException, OverflowError, UnicodeError, RecursionError):
            columns[key] = pa.array([None if value is None else json.dumps(value) for value in values])
    named = {key.encode("ascii", "backslashreplace").decode(): column for key, column in columns.items()}
    return pa.table(named) if named else pa.table({"nothing": [None] * len(good)})


def as_parquet(rows: list[Any]) -> bytes:
    buffer, table = io.BytesIO(), _table(rows)
    try:
        parquet.write_table(table, buffer, row_group_size=2)
    except pa.ArrowException:  # objects without a field can't be stored
        parquet.write_table(pa.table({"row": [json.dumps(row) for row in rows]}), buffer, row_group_size=2)
    return buffer.getvalue()


def as_arrow(rows: list[Any]) -> bytes:
    buffer, table = io.BytesIO(), _table(rows)
    with pa.ipc.new_stream(buffer, table.schema) as out:
        out.write_table(table, max_chunksize=2)
    return buffer.getvalue()


FORMS = {
    "x.jsonl": as_lines,
    "x.json": lambda rows: json.dumps(rows).encode(),
    "x.jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
    "x.parquet": as_parquet,
    "x.tar": as_tar,
    "x.arrow": as_arrow,
}


# --- what must hold


@contextmanager
def folder() -> Iterator[Path]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # files come and go much quicker there
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def converted(kind: str, path: Path, root: Path) -> BuildReport | str:
    """What was converted to the folder `d`, or why nothing was; nothing else may come of any input."""
    source = {"type": kind, "name": "x", "path": str(path), "images": str(FIXTURES), **SETTINGS.get(kind, {})}
    if kind == "nlvr":
        source.update(images=str(FIXTURES / "images"), prefix="nlvr")
    config = parse_config({"source": source, "max_rejected": 1.0, "shard_records": 2}, ConvertConfig, "test")
    return _sound(lambda: convert(config, root / "d"), root / "d")


def _sound(run: Any, out: Path) -> BuildReport | str:
    why = ""
    try:
        report: BuildReport = run()
    except UserError as error:
        why = str(error) or "no words"
    if why:
        why.encode()  # can be printed
        # nothing that looks finished, or can be gone on with
        assert [path for path in out.parent.iterdir() if path.name in ("d", ".d.build")] == []
        return why
    _sums(report, out)
    return report


def _sums(report: BuildReport, out: Path) -> None:
    extra = read_manifest(out).extra
    assert extra["rows"] == report.rows
    for name, rows in report.rows.items():
        assert set(rows) == {"read", "in", "quarantined"}
        assert min(rows.values()) >= 0
        assert rows["in"] + rows["quarantined"] == rows["read"]
        assert sum(report.rejected.get(name, {}).values()) == rows["quarantined"]
    gone = [*report.duplicates.values(), *report.merged.values(), *report.filtered.values()]
    assert report.made == report.records + sum(gone) + sum(report.dropped.values())
    told = quarantined(out)
    assert len(told) == sum(rows["quarantined"] for rows in report.rows.values())
    for row in told:
        assert row["code"] in CODES
        assert row["reason"]
        assert row["where"]
        assert "image" not in row or (out / "quarantine" / row["image"]).is_file()
    found = check(out, decode=True, workers=1)
    assert found.problems == []
    assert found.records == report.records == len(records(out))


def quarantined(out: Path) -> list[dict[str, Any]]:
    text = (out / "quarantine" / "rows.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def records(out: Path) -> list[PreferenceRecord]:
    """All records, read whole: each is built anew, images and all."""
    splits = dict.fromkeys(shard.split for shard in read_manifest(out).shards)
    return [record for split in splits for record in open_records(out, split, verify=True)]


def places(out: Path) -> list[str]:
    """The rows' places, those in records and those in the quarantine; of all formats whose ids tell them."""
    found = [row["where"].removeprefix("x-") for row in quarantined(out)]
    for record in records(out):
        found += record.provenance.get("rows") or [record.id.removeprefix("x-")]
    return sorted(found)


def all_told(kind: str, result: BuildReport | str, root: Path, expected: list[str]) -> None:
    """Each of the expected places is in the output or in the quarantine, once."""
    if isinstance(result, str):
        assert f"source x: {len(expected)} of {len(expected)} rows are malformed" in result
        return
    assert result.rows["x"]["read"] == len(expected)
    if kind != "nlvr":  # whose ids are those of its rows
        assert places(root / "d") == sorted(expected)


# --- the cases

# the others differ in what packs the same rows
SOME_FORMS = [
    form if form in ("x.jsonl", "x.parquet", "x.tar") else pytest.param(form, marks=pytest.mark.slow)
    for form in FORMS
]


@pytest.mark.parametrize("form", SOME_FORMS)
@cases(150)
@given(st.data())
def test_damaged_rows(form: str, data: st.DataObject) -> None:
    kind, rows = data.draw(row_sets())
    with folder() as root:
        content = FORMS[form](rows)
        expected = {
            "x.jsonl": [f"{form}:{n}" for n in range(1, len(rows) + 1)],
            "x.jsonl.gz": [f"{form}:{n}" for n in range(1, len(rows) + 1)],
            "x.tar": [f"{form}:{n:04d}" for n in range(len(rows))],
        }.get(form, [f"{form}[{n}]" for n in range(len(rows))])
        if form == "x.jsonl":
            for line in data.draw(st.lists(st.sampled_from(LINES), max_size=3)):
                content += b"\n \n" + line + b"\n"
                expected.append(f"{form}:{content.count(10)}")
        (root / form).write_bytes(content)
        result = converted(kind, root / form, root)
        whole = form != "x.json" or all(_is_json(row) for row in rows)
        if whole:
            all_told(kind, result, root, expected)
        else:
            assert isinstance(result, str)  # a list with a row that is no JSON is refused as a whole
            assert form in result


def _is_json(row: Any) -> bool:
    try:
        json.loads(json.dumps(row, allow_nan=False))
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("form", SOME_FORMS)
@cases(100)
@given(st.data(), STRIKES)
def test_damaged_files(form: str, data: st.DataObject, strikes: list[Any]) -> None:
    name = data.draw(st.sampled_from(sorted(SETS)))
    content = struck(FORMS[form](SETS[name][:6] * 2), strikes)
    with folder() as root:
        (root / form).write_bytes(content)
        result = converted(type_of(name), root / form, root)
        if isinstance(result, str):
            assert form in result or "source x: " in result
        elif form == "x.jsonl" and content.startswith(b'{"'):
            lines = [n for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
            all_told(type_of(name), result, root, [f"{form}:{n}" for n in lines])


def _with_picture(form: str, number: int, picture: bytes) -> list[tuple[str, Any]]:
    row: dict[str, Any] = {"prompt": f"what is {number}?", "chosen": "a", "rejected": "b"}
    if form == "x.tar":
        return [(f"{number:04d}.json", json.dumps(row)), (f"{number:04d}.png", picture)]
    if form == "x.jsonl":
        return [("", {**row, "images": [{"bytes": base64.b64encode(picture).decode()}]})]
    return [("", {**row, "images": [{"bytes": picture, "path": f"{number}.png"}]})]


@pytest.mark.parametrize("form", ["x.jsonl", "x.parquet", "x.tar"])
@cases(120)
@given(st.lists(pictures(), min_size=1, max_size=4))
def test_damaged_images(form: str, shown: list[bytes]) -> None:
    """A picture is in the output with all its pixels, or in the quarantine with all its bytes."""
    shown = [*shown, PICTURES["png"]]
    items = [item for number, picture in enumerate(shown) for item in _with_picture(form, number, picture)]
    content = tar_bytes(items) if form == "x.tar" else FORMS[form]([row for _, row in items])
    with folder() as root:
        (root / form).write_bytes(content)
        result = converted("trl", root / form, root)
        assert isinstance(result, BuildReport)
        assert result.rows["x"]["read"] == len(shown)
        held = [decode_image(record.images[0].data or b"").tobytes() for record in records(root / "d")]
        told = [row for row in quarantined(root / "d") if row["code"].startswith("image")]
        assert len(held) + len(told) == len(shown)
        kept = [(root / "d" / "quarantine" / row["image"]).read_bytes() for row in told if "image" in row]
        assert set(kept) <= set(shown)
        # an empty picture is none that could be kept: the row says that it has no image, or one of 0 bytes
        good = [picture for picture in shown if picture not in kept and picture]
        assert sorted(held) == sorted(decode_image(picture).tobytes() for picture in good)


@cases(200)
@given(st.data())
def test_damaged_mixtures(data: st.DataObject) -> None:
    """Two formats, with copies, splits and balance, through all steps of a build."""
    with folder() as root:
        sources, numbers = [], {}
        for name in ("one", "two"):
            kind, rows = data.draw(row_sets())
            form = data.draw(st.sampled_from(sorted(FORMS)))
            (root / name).mkdir()
            content = FORMS[form](rows)
            if data.draw(st.booleans()):
                content = struck(content, data.draw(STRIKES))
            elif form != "x.json":
                numbers[name] = len(rows)
            (root / name / form).write_bytes(content)
            source = {"type": kind, "name": name, "path": str(root / name / form), "images": str(FIXTURES)}
            sources.append({**source, **SETTINGS.get(kind, {})})
        row: dict[str, Any] = {"sources": sources, "max_rejected": 1.0, "shard_records": 2}
        if data.draw(st.booleans()):
            row["balance"] = {"modality": {"text": 0.5}}
        config = parse_config(row, DataConfig, "test")
        result = _sound(lambda: build(config, root / "d"), root / "d")
        if isinstance(result, BuildReport):
            for name, number in numbers.items():
                assert result.rows[name]["read"] == number
