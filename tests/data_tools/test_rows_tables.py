"""Parquet and Arrow files, folders of `save_to_disk`, and data sets of the hub."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from huggingface_hub import constants
from pyarrow import compute, parquet
from sample_records import png

from data_tools.adapters.trl import TrlConfig
from data_tools.build.work import fingerprint
from data_tools.errors import UserError
from data_tools.images import read_image
from data_tools.rows import parquet as rows_parquet
from data_tools.rows.open import all_rows, image_folder, pieces, read_rows
from data_tools.source import Rejected

# no image: whoever decodes it would fail
ROWS: list[dict[str, Any]] = [
    {"q": f"q{number}", "image": {"bytes": b"no image %d" % number, "path": "a.png"}, "l": [{"a": number}]}
    for number in range(50)
]
FEATURES = datasets.Features(
    {"q": datasets.Value("string"), "image": datasets.Image(), "l": [{"a": datasets.Value("int64")}]}
)


@pytest.fixture(autouse=True)
def _no_bars() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def saved(rows: list[dict[str, Any]] = ROWS) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows, features=FEATURES)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_parquet_is_read_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"  # known by its content
    parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=20)
    monkeypatch.setattr(rows_parquet, "PIECE_ROWS", 25)
    found = pieces(path)
    assert [(piece.form, piece.start, piece.stop, piece.first) for piece in found] == [
        ("parquet", 0, 1, 0),
        ("parquet", 1, 2, 20),
        ("parquet", 2, 3, 40),
    ]
    assert list(read_rows(found[2])) == [(f"x.bin[{n}]", ROWS[n]) for n in range(40, 50)]
    assert list(all_rows(path)) == [(f"x.bin[{n}]", ROWS[n]) for n in range(50)]


def test_small_row_groups_are_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=1)

    def divided() -> list[tuple[int, int | None, int]]:
        found = pieces(path)
        assert [row for piece in found for row in read_rows(piece)] == [
            (f"x[{n}]", ROWS[n]) for n in range(50)
        ]
        return [(piece.start, piece.stop, piece.first) for piece in found]

    assert divided() == [(0, 50, 0)]
    monkeypatch.setattr(rows_parquet, "PIECE_ROWS", 20)
    assert divided() == [(0, 20, 0), (20, 40, 20), (40, 50, 40)]
    monkeypatch.setattr(rows_parquet, "PIECE_BYTES", 1)  # a group is never cut
    assert divided() == [(n, n + 1, n) for n in range(50)]


def test_dates_that_python_has_not_cost_no_row(tmp_path: Path) -> None:
    far = [1, 10**12]  # the second one is in the year 33658
    dated = pa.array([[{"t": n}] for n in far], pa.list_(pa.struct([("t", pa.timestamp("s"))])))
    table = pa.table({"q": ["a", "b"], "t": pa.array(far, pa.timestamp("s")), "l": dated})
    table = table.append_column("z", pa.array([5, 6], pa.timestamp("s", tz="Foo/Bar")))
    parquet.write_table(table, tmp_path / "x.parquet")
    first, second = (item[1] for item in all_rows(tmp_path / "x.parquet") if isinstance(item, tuple))
    assert first == {
        "q": "a",
        "t": datetime(1970, 1, 1, 0, 0, 1),
        "l": [{"t": datetime(1970, 1, 1, 0, 0, 1)}],
        "z": 5000,  # parquet has no seconds, but milliseconds
    }
    assert second == {"q": "b", "t": 10**15, "l": [{"t": 10**15}], "z": 6000}


NOTHING = pa.FixedSizeListArray.from_arrays(pa.nulls(3_000_000), 3_000_000)
REPEATED = pa.ListArray.from_arrays(
    [0, 200_000], pa.DictionaryArray.from_arrays(np.zeros(200_000, np.int8), ["x" * 10_000])
)
VIEWS = pa.ListViewArray.from_arrays([0] * 3, [1_000_000] * 3, pa.nulls(1_000_000))
TEXT = pa.py_buffer(
    struct.pack("<i4sii", 10_000, b"xxxx", 0, 0) * 200_000
)  # a view: length, start, buffer, place
TEXTS = pa.ListArray.from_arrays(
    [0, 200_000],
    pa.Array.from_buffers(pa.string_view(), 200_000, [None, TEXT, pa.py_buffer(b"x" * 10_000)]),
)


@pytest.mark.parametrize(("column", "kept"), [(NOTHING, []), (REPEATED, []), (TEXTS, []), (VIEWS, [0, 1, 2])])
def test_a_small_arrow_file_takes_little_memory(column: Any, kept: list[int], tmp_path: Path) -> None:
    path = tmp_path / "x"
    batch = pa.record_batch([column], names=["x"])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema, options=options) as out:
        out.write_batch(batch)
    assert path.stat().st_size < 20_000
    found = list(all_rows(path))
    assert len(found) == len(column)
    assert [n for n, item in enumerate(found) if isinstance(item, tuple)] == kept
    lost = [item.reason for item in found if isinstance(item, Rejected)]
    assert set(lost) <= {"the row has too many values or bytes to be true"}


def test_all_types_are_counted_and_read(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "views": pa.array(["abc", None, "d" * 40], pa.string_view()),
        "bytes": pa.array([b"a", b"", None], pa.large_binary()),
        "map": pa.array([[("a", 1)], None, [("b", 2), ("c", 3)]], pa.map_(pa.string(), pa.int64())),
        "list_view": pa.array([[1, 2], None, [3]], pa.list_view(pa.int64())),
        "fixed": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
        "large": pa.array([["x"], None, []], pa.large_list(pa.string())),
        "struct": pa.array([{"a": [1]}, None, {"a": None}]),
        "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
        "runs": compute.run_end_encode(pa.array(["a", "a", "b"])),
        "nothing": pa.nulls(3),
    }
    batch = pa.record_batch(list(values.values()), names=list(values))
    with pa.OSFile(str(tmp_path / "x"), "wb") as file, pa.ipc.new_file(file, batch.schema) as out:
        out.write_batch(batch)
    assert [item[1] for item in all_rows(tmp_path / "x") if isinstance(item, tuple)] == batch.to_pylist()


def test_a_damaged_parquet_group_gives_what_lies_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pylist(ROWS)
    parquet.write_table(table, path, row_group_size=20, write_page_checksum=True, compression="none")
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, whole.index(b"no image 25")))
    rows = list(all_rows(path))
    (lost,) = [row for row in rows if isinstance(row, Rejected)]
    assert lost.reason == "a group of rows is damaged; nothing after it in the group can be read"
    assert (lost.where, lost.code) == ("x.parquet[20]", "row-unreadable")
    assert [row[1] for row in rows if isinstance(row, tuple)] == ROWS[:20] + ROWS[40:]
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"x\.parquet: cut short or damaged; its list of rows can't be read"):
        list(all_rows(path))


def test_a_text_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(struct.pack("<4i", 0, 1, 2, 3)), pa.py_buffer(b"a\xffc")]
    )
    table = pa.table({"q": texts})
    parquet.write_table(table, tmp_path / "x.parquet")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    for name in ("x.parquet", "x.arrow"):
        assert list(all_rows(tmp_path / name)) == [
            (f"{name}[0]", {"q": "a"}),
            Rejected("the row is damaged, or its text isn't UTF-8", f"{name}[1]", "row-unreadable"),
            (f"{name}[2]", {"q": "c"}),
        ]


@pytest.mark.parametrize("make", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_files_of_both_kinds(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "x"
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as out:
        out.write_table(table, max_chunksize=20)
    assert list(all_rows(path)) == [(f"x[{n}]", ROWS[n]) for n in range(50)]


def test_a_damaged_arrow_stream_tells_of_it(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table, max_chunksize=20)
    whole = path.read_bytes()
    rest = "the Arrow file is cut short or damaged; nothing after it can be read"
    path.write_bytes(whole[: whole.index(b"no image 25")])
    *rows, last = all_rows(path)
    assert rows == [(f"x.arrow[{n}]", ROWS[n]) for n in range(20)]
    assert isinstance(last, Rejected)
    assert (last.reason, last.where) == (rest, "x.arrow[20]")
    # cut off where a batch ends, which pyarrow takes for the end of the stream
    path.write_bytes(whole[:-8])
    *rows, last = all_rows(path)
    assert len(rows) == 50
    assert isinstance(last, Rejected)
    assert last.reason == rest
    # offsets that lead out of the file, which would crash the process that used them
    offsets = b"".join(struct.pack("<i", 2 * number) for number in range(11))  # of q0 ... q9
    path.write_bytes(whole.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f" + offsets[12:]))
    lost = [row for row in all_rows(path) if isinstance(row, Rejected)]
    assert lost
    assert all(row.where.startswith("x.arrow[") for row in lost)


def test_a_saved_data_set_gives_its_rows_undecoded(tmp_path: Path) -> None:
    saved().save_to_disk(tmp_path / "d", num_shards=2)
    (tmp_path / "d" / "stale.arrow").write_bytes(b"left by another run")
    rows = list(all_rows(tmp_path / "d"))
    assert [row[0] for row in rows if isinstance(row, tuple)] == [
        *(f"data-00000-of-00002.arrow[{n}]" for n in range(25)),
        *(f"data-00001-of-00002.arrow[{n}]" for n in range(25)),
    ]
    assert [row[1] for row in rows if isinstance(row, tuple)] == ROWS
    assert len(pieces(tmp_path / "d")) == 2
    with pytest.raises(UserError, match=r"has no splits, so not 'test' either"):
        pieces(tmp_path / "d", split="test")


def test_a_dict_of_data_sets_has_splits(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": saved(), "test": saved(ROWS[:3])})
    both.save_to_disk(tmp_path / "d")
    assert list(all_rows(tmp_path / "d", split="test")) == [
        (f"test/data-00000-of-00001.arrow[{n}]", ROWS[n]) for n in range(3)
    ]
    assert len(list(all_rows(tmp_path / "d", split="all"))) == 53
    with pytest.raises(UserError, match="has the splits test, train; choose one with split"):
        pieces(tmp_path / "d")
    with pytest.raises(UserError, match="has no split 'dev'; it has: test, train"):
        pieces(tmp_path / "d", split="dev")
    # below another folder too, with places below that one
    assert next(iter(all_rows(tmp_path, split="test")))[0] == "d/test/data-00000-of-00001.arrow[0]"  # type: ignore[index]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "names no files of rows"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names no files of rows"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "names gone.arrow, which isn't there"),
    ],
)
def test_a_damaged_saved_data_set_is_refused(state: str, why: str, tmp_path: Path) -> None:
    saved().save_to_disk(tmp_path)
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=why):
        pieces(tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A hub of one data set, whose cache is made by `datasets` itself; what it was asked for."""
    asked: list[Any] = []
    for split, rows in (("train", ROWS), ("test", ROWS[:3])):
        parquet.write_table(saved(rows).data.table, tmp_path / f"{split}.parquet", row_group_size=20)
    load = datasets.load_dataset

    def fake(name: str, subset: str | None = None, **how: Any) -> Any:
        asked.append((name, subset))
        if subset == "gone":
            raise ValueError("BuilderConfig 'gone' not found. Available: ['all']")
        files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
        return load("parquet", data_files=files, cache_dir=str(tmp_path / "cache"), **how)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    monkeypatch.setattr(datasets.config, "MAX_SHARD_SIZE", 1)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_hub_data_set(hub: list[Any]) -> None:
    name = Path("org/name")
    assert list(all_rows(name, split="train")) == [(f"org/name:train[{n}]", ROWS[n]) for n in range(50)]
    assert [piece.first for piece in pieces(name, split="train")] == [0, 20, 40]
    assert list(all_rows(name, "sub", "test")) == [(f"org/name/sub:test[{n}]", ROWS[n]) for n in range(3)]
    assert hub == [("org/name", None), ("org/name", None), ("org/name", "sub")]
    with pytest.raises(UserError, match="org/name: has the splits test, train; choose one with split"):
        pieces(name)
    with pytest.raises(UserError, match="has no split 'dev'; it has: test, train"):
        pieces(name, split="dev")
    with pytest.raises(UserError, match="Available: \\['all'\\]"):
        pieces(name, "gone")


def test_an_adapter_reads_a_hub_data_set(hub: list[Any]) -> None:
    config = TrlConfig(name="x", path=Path("org/name"), split="test")
    assert config.files() == ()
    assert hub == []
    assert config.image_root == (
        Path(constants.HF_HUB_CACHE) / "datasets--org--name",
        Path(datasets.config.DOWNLOADED_DATASETS_PATH),
    )
    found = list(config.generate(0))
    assert [(item.where, item.reason) for item in found if isinstance(item, Rejected)] == [
        (f"org/name:test[{n}]", found[0].reason)
        for n in range(3)  # type: ignore[union-attr]
    ]


def test_a_hub_data_set_is_known_by_its_cache(hub: list[Any], tmp_path: Path) -> None:
    for limit in (None, 2):
        config = TrlConfig(name="x", path=Path("org/name"), split="test", limit=limit)
        (name,) = config.origin()
        assert Path(name).is_relative_to(tmp_path / "cache")
    assert config.uncompared(pictured=True) == "what the hub has now"
    assert fingerprint("", [], [None], ["a"]) != fingerprint("", [], [None], ["b"])
    (piece,) = pieces(Path("org/name"), split="test")
    assert piece.split == "test"
    assert TrlConfig(name="x", path=tmp_path / "x.jsonl").origin() == ()


def test_without_a_network_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"(?s)org/name: no such file or folder, and .*hf download"):
        pieces(Path("org/name"))
    # a folder `org` lies here, or the name is that of a file: no hub is asked
    (tmp_path / "org").mkdir()
    for name in ("org/name", "other/rows.jsonl"):
        with pytest.raises(UserError, match="No such file"):
            pieces(Path(name))


def test_images_of_a_saved_data_set_reach_the_record(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png((1, 2, 3)))
    rows = datasets.Dataset.from_list(
        [{"prompt": "q", "chosen": "a", "rejected": "b", "image": str(tmp_path / "a.png")}]
    ).cast_column("image", datasets.Image())
    rows.save_to_disk(tmp_path / "d")
    (tmp_path / "a.png").unlink()
    config = TrlConfig(name="x", path=tmp_path / "d")
    (record,) = config.generate(0)
    assert not isinstance(record, Rejected), record
    assert read_image(record.images[0]).getpixel((0, 0)) == (1, 2, 3)
    assert record.id == "x-data-00000-of-00001.arrow[0]"
    assert image_folder(tmp_path / "d") == tmp_path / "d"
    assert [path.name for path in config.files()] == ["data-00000-of-00001.arrow"]
    assert json.loads((tmp_path / "d" / "state.json").read_text())["_data_files"]
