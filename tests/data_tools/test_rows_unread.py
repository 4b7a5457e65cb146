"""Other encodings and other forms are named for what they are, with what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.adapters.recognise import recognise
from data_tools.errors import UserError
from data_tools.rows.open import all_rows
from data_tools.rows.unread import what_else
from data_tools.source import Rejected

ROWS = [{"prompt": f"Wie heißt Farbe {n}?", "chosen": "Röt", "rejected": "Blau"} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CHINESE = '{"prompt": "这是什么颜色？", "chosen": "红色", "rejected": "蓝色"}\n'


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in names:
            packed.writestr(name, "<x/>")
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


UTF = "text; save the file as UTF-8"
FILES = {
    "utf-16 with a mark": (LINES.encode("utf-16"), "is UTF-16 " + UTF),
    "utf-16, big end first": (b"\xfe\xff" + LINES.encode("utf-16-be"), "is UTF-16 " + UTF),
    "utf-16 without a mark": (LINES.encode("utf-16-le"), "is UTF-16LE " + UTF),
    "utf-16 list": (json.dumps(ROWS).encode("utf-16-be"), "is UTF-16BE " + UTF),
    "utf-32": (LINES.encode("utf-32"), "is UTF-32 " + UTF),
    "csv": (b"prompt,chosen,rejected\nWhat?,a,b\n", "is CSV, which isn't read; write its rows as JSON lines"),
    "csv of Excel": (b"\xef\xbb\xbfprompt;chosen\r\nWhat?;a\r\n", "is CSV"),
    "tsv": (b"prompt\tchosen\nWhat, then?\ta\n", "is TSV"),
    "xlsx": (_zip("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "old Excel workbook"),
    "sqlite": (b"SQLite format 3\0" + bytes(80), "is an SQLite database"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file"),
    "numpy": (_npy(), "is a numpy file"),
    "pickle": (pickle.dumps(ROWS), "is a pickle, which is never opened"),
    "page": (b"<!DOCTYPE html>\n<html><title>Log in</title></html>", "is a web page (HTML)"),
    "xml": (b'<?xml version="1.0"?>\n<rows/>', "is XML"),
    "pdf": (b"%PDF-1.7\n1 0 obj", "is a PDF document"),
    "zip": (_zip("rows.jsonl"), "packed with zip; unpack it first"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("name", FILES)
def test_what_a_file_is(name: str, pack, tmp_path: Path) -> None:
    data, words = FILES[name]
    path = tmp_path / "rows"
    path.write_bytes(pack(data))
    with pytest.raises(UserError) as error:
        list(all_rows(path))
    assert words in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"), [("a.csv", "is CSV"), ("a.tsv.gz", "is TSV"), ("a.jsonl", "is CSV")]
)
def test_names_of_tables(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"prompt,answer\na,b\n" if "jsonl" in name else b"prompt\n")
    with pytest.raises(UserError, match=words):
        list(all_rows(tmp_path / name))


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode("latin-1"),
        CHINESE.encode("gbk"),
        LINES.encode("cp1252"),
        '{"a": "é"}\n'.encode("latin-1"),
    ],
)
def test_lines_of_other_encodings(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    found = list(all_rows(path))
    assert {row.reason for row in found if isinstance(row, Rejected)} == {
        "is no UTF-8 text (but Latin-1 or GBK, perhaps); save the file as UTF-8"
    }
    assert len(found) == data.count(b"\n")
    with pytest.raises(UserError, match=r"rows\.jsonl:1 is no UTF-8 text"):
        recognise(path)


def test_a_list_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json.dumps(ROWS, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match="is no UTF-8 text"):
        list(all_rows(path))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_no_json(value: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{{"margin": {value}}}\n')
    reason = f"holds {value}, which isn't JSON; write null in its place"
    row, rejected = all_rows(path)
    assert row == ("rows.jsonl:1", {"a": 1})
    assert rejected == Rejected(reason, "rows.jsonl:2", "row-unreadable", f'{{"margin": {value}}}\n')
    path.write_text(f'[{{"margin": {value}}}]')
    with pytest.raises(UserError, match=reason):
        list(all_rows(path))


def test_what_is_damaged_is_not_taken_for_something_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for first in (b"no\n", b'"a", "b"\n', b'{"a": 1\n', b"#, a\n"):
        path.write_bytes(first + b'{"a": 1}\n')
        rejected, row = all_rows(path)
        assert isinstance(rejected, Rejected)
        assert row == ("rows.jsonl:2", {"a": 1})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=512))
def test_anything(data: bytes) -> None:
    assert what_else("rows.jsonl", data) is None or isinstance(what_else("rows.jsonl", data), str)
    assert what_else("rows.jsonl", b'{"a": ' + data.replace(b"\0", b"0")) is None
