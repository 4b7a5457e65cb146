"""Damaged files of every form: no exception but UserError, no hang, and nothing lost without a word."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from damage import PLACE, STRIKES, struck
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tar_files import tar_bytes

from data_tools.errors import UserError
from data_tools.rows.open import all_rows, read_rows
from data_tools.rows.text import line_pieces
from data_tools.source import Rejected

ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "q": f"question \u00e9 {number}",
        "image": {"bytes": bytes([number, 200, 10]) * 40, "path": f"{number}.png"},
        "turns": [{"role": "user", "scores": [0.5] * 3}] * (number % 3),
        "nothing": None,
    }
    for number in range(60)
]
LINES = b"".join(json.dumps({"n": number, "t": "\u00e9" * number}).encode() + b"\n" for number in range(40))


def _parquet(compression: str) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(ROWS),
        buffer,
        row_group_size=25,
        compression=compression,
        write_page_checksum=compression == "none",
    )
    return buffer.getvalue()


def _arrow(make: Any, compression: str | None = None) -> bytes:
    buffer, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with make(buffer, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
        out.write_table(table, max_chunksize=25)
    return buffer.getvalue()


def _tar(form: int) -> bytes:
    members = []
    for number in range(12):
        key = "\u00e9" * 60 * (number % 3) + f"{number:04d}"
        members += [
            (f"{key}.json", json.dumps({"n": number})),
            (f"{key}.0.png", b"p" * 700),
            (f"{key}.txt", "x"),
        ]
    return tar_bytes(members, form)


WHOLE = {
    "x.jsonl": LINES,
    "x.json": json.dumps([{"n": number} for number in range(40)]).encode(),
    "lists.json": json.dumps({"train": [{"n": number} for number in range(40)]}).encode(),
    "x.parquet": _parquet("snappy"),
    "sums.parquet": _parquet("none"),
    "x.arrow": _arrow(pa.ipc.new_stream),
    "packed.arrow": _arrow(pa.ipc.new_stream, "zstd"),
    "file.arrow": _arrow(pa.ipc.new_file),
    "x.tar": _tar(tarfile.GNU_FORMAT),
    "pax.tar": _tar(tarfile.PAX_FORMAT),
    "x.jsonl.gz": gzip.compress(LINES),
    "x.tar.gz": gzip.compress(_tar(tarfile.GNU_FORMAT)),
}
COUNTS = {"x.jsonl": 40, "x.json": 40, "lists.json": 40, "x.tar": 12, "pax.tar": 12, "x.jsonl.gz": 40}
COUNTS |= {"x.tar.gz": 12, **{name: 60 for name in WHOLE if name.endswith((".parquet", ".arrow"))}}


def cases(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=timedelta(seconds=20),
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_give_all_their_rows(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    rows = list(all_rows(tmp_path / name))
    assert len(rows) == COUNTS[name]
    assert not any(isinstance(row, Rejected) for row in rows)


@pytest.mark.parametrize("name", WHOLE)
@cases(100)
@given(STRIKES)
def test_damaged_files_raise_nothing_else(name: str, tmp_path: Path, strikes: list[Any]) -> None:
    (tmp_path / name).write_bytes(struck(WHOLE[name], strikes))
    message = name
    try:
        for row in all_rows(tmp_path / name):
            assert isinstance(row, tuple | Rejected)
    except UserError as error:
        message = str(error)
    assert name in message


@cases(200)
@given(STRIKES, st.integers(1, 600))
def test_no_line_is_lost(tmp_path: Path, strikes: list[Any], size: int) -> None:
    data = struck(LINES, strikes)
    if not data.startswith(b'{"'):
        return  # may be taken for another form
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    rows = list(all_rows(path))
    assert len(rows) == sum(1 for line in data.split(b"\n") if line.strip())
    assert rows == [row for piece in line_pieces(path, "x.jsonl", size) for row in read_rows(piece)]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.tar", "pax.tar", "x.tar.gz", "x.arrow", "packed.arrow"])
@cases(60)
@given(PLACE)
def test_a_file_cut_short_gives_its_first_rows_and_says_so(name: str, tmp_path: Path, place: float) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    whole = list(all_rows(path))
    path.write_bytes(WHOLE[name][: int(place * len(WHOLE[name]))])
    try:
        rows = list(all_rows(path))
    except UserError:
        return  # nothing can be read
    good = [row for row in rows if isinstance(row, tuple)]
    assert good == whole[: len(good)]
    # only the padding behind a plain tar's end mark may be missing without a word; and nothing at all of an empty file
    cut = place * len(WHOLE[name])
    end = WHOLE[name].rstrip(b"\0") if name.endswith(".tar") else WHOLE[name]
    if 0 < int(cut) < len(end):
        assert isinstance(rows[-1], Rejected)
