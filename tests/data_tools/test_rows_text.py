"""JSON lines, lists and objects of lists, plain and gzipped."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
from pathlib import Path

import pytest

from data_tools.errors import UserError
from data_tools.rows import json_list, json_value, text
from data_tools.rows.open import all_rows, pieces, read_rows
from data_tools.rows.text import line_pieces
from data_tools.source import Rejected

LINES = b'{"a": 1}\n\n{"a": 2}\nno\n{"a": "\xc3\xa9"}'
ROWS = [
    ("x:1", {"a": 1}),
    ("x:3", {"a": 2}),
    Rejected("not valid JSON", "x:4", "row-unreadable", "no\n"),
    ("x:5", {"a": "\u00e9"}),
]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_are_known_by_their_content(pack, tmp_path: Path) -> None:
    path = tmp_path / "x"  # a name that says nothing
    path.write_bytes(pack(LINES))
    assert list(all_rows(path)) == ROWS


def test_lines_have_the_same_places_however_the_file_is_divided(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(LINES)
    for size in (1, 3, 9, 20, 1000):
        assert [row for piece in line_pieces(path, "x", size) for row in read_rows(piece)] == ROWS, size
    assert [piece.start for piece in line_pieces(path, "x", 1)] == [0, 9, 19, 22]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lists(pack, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"  # the content says that it's a list
    path.write_bytes(pack(b'\xef\xbb\xbf\n [{"a": 1}, 3]'))
    assert list(all_rows(path)) == [("x.jsonl[0]", {"a": 1}), ("x.jsonl[1]", 3)]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_of_lists_has_splits(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"train": [{"a": 1}, {"a": 2}], "test": [{"a": 3}]}, indent=indent))
    assert list(all_rows(path, split="test")) == [("x.json:test[0]", {"a": 3})]
    assert [where for where, _ in all_rows(path, split="all")] == [
        *("x.json:train[0]", "x.json:train[1]", "x.json:test[0]")
    ]
    with pytest.raises(UserError, match=r"x\.json: has the splits test, train; choose one with split"):
        pieces(path)
    with pytest.raises(UserError, match=r"has no split 'dev'; it has: test, train"):
        pieces(path, split="dev")
    path.write_text(json.dumps({"data": [{"a": 1}]}, indent=indent))
    assert list(all_rows(path)) == [("x.json:data[0]", {"a": 1})]


def test_other_objects_are_refused_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"version": 1, "data": [{"a": 1}]}, indent=1))
    with pytest.raises(UserError, match="one JSON object over several lines"):
        pieces(path)
    path.write_text('{"data": [{"a": 1}], "version": 1}')
    with pytest.raises(UserError, match="not each of its fields is a list"):
        pieces(path)
    # one line is a row, even where all it holds is lists
    path.write_text('{"chosen": [{"role": "user"}], "rejected": [{"role": "user"}]}')
    assert [where for where, _ in all_rows(path)] == ["x.json:1"]
    # and a first line that is damaged is one bad row
    path.write_text('{\n{"a": 1}\n')
    assert list(all_rows(path))[1] == ("x.json:2", {"a": 1})


def test_lines_without_splits_refuse_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"x\.jsonl: has no splits, so not 'train' either"):
        pieces(tmp_path / "x.jsonl", split="train")
    with pytest.raises(UserError, match=r"has no subset 'x'; only data sets of the hub"):
        pieces(tmp_path / "x.jsonl", subset="x")


def test_a_line_that_is_too_long_is_one_rejected_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_LINE", 20)
    monkeypatch.setattr(text, "_BLOCK", 8)
    path = tmp_path / "x"
    exact = b'{"a": "12345678901"}\n'  # 20 bytes and its end
    long = b'{"a": "' + b"1" * 50 + b'"}\n'
    for data in (exact + long + exact, gzip.compress(exact + long + exact)):
        path.write_bytes(data)
        for found in (pieces(path), list(line_pieces(path, "x", 1))):
            assert [row for piece in found for row in read_rows(piece)] == [
                ("x:1", {"a": "12345678901"}),
                Rejected("the line is too long", "x:2", "row-unreadable"),
                ("x:3", {"a": "12345678901"}),
            ]


def test_a_gzip_bomb_is_read_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_LINE", 2**20)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' + bytes(30 * 2**20) + b'\n{"a": 2}'))
    assert path.stat().st_size < 40_000
    assert list(all_rows(path)) == [
        ("x.jsonl.gz:1", {"a": 1}),
        Rejected("the line is too long", "x.jsonl.gz:2", "row-unreadable"),
        ("x.jsonl.gz:3", {"a": 2}),
    ]
    monkeypatch.setattr(json_list, "MOST_ROW", 2**20)
    path.write_bytes(gzip.compress(b'[1, "' + b"a" * (30 * 2**20) + b'"]'))
    with pytest.raises(UserError, match="a row of more than 1,048,576 characters"):
        list(all_rows(path))


def test_a_packed_list_of_many_rows_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "_BLOCK", 2**14)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b"[" + b"[]," * 60_000 + b"[]]"))
    assert path.stat().st_size < 1000
    tracemalloc.start()
    try:
        assert sum(1 for _ in all_rows(path)) == 60_001
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2.5 * 2**20  # a buffer of 1 MiB, and what unpacking takes; the list itself would be 3.7 MiB


def test_a_row_of_too_many_values_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_value, "_SMALL", 100)
    monkeypatch.setattr(json_value, "MOST_VALUES", 50)
    path = tmp_path / "x"
    dense = b'{"a": [' + b"[]," * 60 + b"[]]}"
    path.write_bytes(b'{"a": "%b"}\n' % (b"no number of letters is too many " * 20) + dense + b"\n{}\n")
    first, lost, last = all_rows(path)
    assert not isinstance(first, Rejected)
    assert last == ("x:3", {})
    assert isinstance(lost, Rejected)
    assert (lost.reason, lost.where, lost.code) == ("a row of more than 50 values", "x:2", "row-unreadable")
    monkeypatch.setattr(json_list, "_BLOCK", 64)
    path.write_bytes(b"[" + dense + b"]")
    with pytest.raises(UserError, match="x: a row of more than 50 values"):
        list(all_rows(path))


@pytest.mark.parametrize("block", [1, 2, 7, 2**20])
def test_lists_are_read_the_same_however_they_are_cut(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_list, "_BLOCK", block)
    path = tmp_path / "x.json"
    whole = '\ufeff [ {"a": "\u00e9\U0001f600\\u00e9 ],["} ,12.5e-1,\n-3, null,true ,[],"x",[[1, 2], {}]] \n'
    rows = [{"a": "\u00e9\U0001f600\u00e9 ],["}, 1.25, -3, None, True, [], "x", [[1, 2], {}]]
    path.write_text(whole, encoding="utf-8")
    assert [item[1] for item in all_rows(path) if isinstance(item, tuple)] == rows
    for damaged in (
        whole.strip()[:-1],
        whole + "x",
        whole.replace("-3", "-3x"),
        whole.replace(",[]", ",,[]"),
    ):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=r"x\.json: not valid JSON"):
            list(all_rows(path))
    path.write_text(f'{{"train": {whole.strip()[1:]}, "test" : [ ]}}', encoding="utf-8")
    assert [item[1] for item in all_rows(path, split="all") if isinstance(item, tuple)] == rows
    assert [piece.key for piece in pieces(path, split="all")] == ["train", "test"]
    path.write_text('{"train": [], "train": [1]}')
    with pytest.raises(UserError, match="two of its lists are called 'train'"):
        pieces(path)


def random_lines(count: int) -> list[bytes]:
    """Lines that don't compress to nothing."""
    letters = random.Random(0)
    return [b'{"a": "%d"}\n' % letters.getrandbits(400) for _ in range(count)]


def test_a_gzip_file_cut_short_gives_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    lines = random_lines(2000)
    # stored, not compressed, so that it can be cut within a known line
    whole = gzip.compress(b"".join(lines), compresslevel=0)
    path.write_bytes(whole[: whole.index(lines[700]) + 5])
    *rows, last = all_rows(path)
    assert rows == [(f"x.gz:{n + 1}", json.loads(line)) for n, line in enumerate(lines[:700])]
    assert last == Rejected(
        "the gzip file is cut short; nothing after it can be read", "x.gz:701", "row-unreadable"
    )
    path.write_bytes(whole[:-3])  # all rows are there, but not the checksum
    assert len(list(all_rows(path))) == 2001
    path.write_bytes(whole[:5])
    assert [row.where for row in all_rows(path) if isinstance(row, Rejected)] == ["x.gz:1"]


def test_a_damaged_gzip_file_gives_the_rows_before(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    lines = random_lines(2000)
    first, second = gzip.compress(b"".join(lines[:900])), gzip.compress(b"".join(lines[900:]))
    path.write_bytes(first + second)  # two members are one file
    assert len(list(all_rows(path))) == 2000
    path.write_bytes(first + b"\xff\xff" + second)
    *rows, last = all_rows(path)
    assert [row[1] for row in rows if isinstance(row, tuple)] == [json.loads(line) for line in lines[:900]]
    assert last == Rejected(
        "the gzip file is damaged; nothing after it can be read", "x.gz:901", "row-unreadable"
    )
    wrong_sum = bytearray(first)
    wrong_sum[-5] ^= 1
    path.write_bytes(wrong_sum)
    assert len(list(all_rows(path))) == 901
    path.write_bytes(gzip.compress(b'[{"a": 1}]')[:-4])
    with pytest.raises(UserError, match="the gzip file is cut short, and a JSON list is only read whole"):
        list(all_rows(path))


def test_two_fields_of_one_name_are_told(tmp_path: Path) -> None:
    lines = ['{"a": 1, "b": 2}', '{"a": 1, "b": {"x": 1, "x": 2}}', '{"a": 1, "a": 1}', '{"a": 3}']
    path = tmp_path / "x"
    for content, places in (("\n".join(lines), "x:{}"), (f"[{','.join(lines)}]", "x[{}]")):
        path.write_text(content)
        first = 1 if places == "x:{}" else 0
        rows = list(all_rows(path))
        assert rows[0] == (places.format(first), {"a": 1, "b": 2})
        assert rows[3] == (places.format(first + 3), {"a": 3})
        for number, name in ((1, "x"), (2, "a")):
            refused = rows[number]
            assert isinstance(refused, Rejected)
            assert (refused.reason, refused.where, refused.code) == (
                f"the field '{name}' stands twice in one object",
                places.format(first + number),
                "row-unreadable",
            )
            assert refused.row  # what stood there


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_rows_behind_many_blank_lines_keep_their_numbers(pack, tmp_path: Path) -> None:
    path = tmp_path / "x"
    gaps = [0, 63, 64, 65, 200, 3000, 300_000, 5, 64, 129]
    path.write_bytes(pack(b"".join(b" \r\n" * gap + b'{"gap": %d}\n' % gap for gap in gaps) + b"\n" * 100))
    numbers = [sum(gaps[: at + 1]) + at + 1 for at in range(len(gaps))]
    rows = [(f"x:{number}", {"gap": gap}) for number, gap in zip(numbers, gaps, strict=True)]
    assert list(all_rows(path)) == rows
    if pack is bytes:
        for size in (1000, 4096, 100_000):
            assert [row for piece in line_pieces(path, "x", size) for row in read_rows(piece)] == rows


def test_blanks_unpack_quickly(tmp_path: Path) -> None:
    path = tmp_path / "x"
    many = b"\n" * (16 * 2**20)
    for data in (many, b"[" + many + b"1]"):  # line by line these take ten seconds
        path.write_bytes(gzip.compress(data, 1))
        began = time.process_time()
        assert len(list(all_rows(path))) == data.count(b"1")
        assert time.process_time() - began < 2
