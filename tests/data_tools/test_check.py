from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_records import image_record, png, text_record
from typer.testing import CliRunner

from data_tools.build import DataConfig, build
from data_tools.check import check
from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.manifest import MANIFEST
from data_tools.schema import ImageRef, Rating
from data_tools.shards import open_records, write_shards

IMAGES, TEXTS = (
    "pictures-preference-image-text-train-000000.tar",
    "words-preference-text-train-000000.tar",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two shards of images and two of texts, with three records each but for the last."""
    records = [make(number) for number in range(5) for make in (image_record, text_record)]
    write_shards(records, tmp_path / "d", max_records=3)
    return tmp_path / "d"


def change(path: Path, before: bytes, after: bytes) -> None:
    data = path.read_bytes()
    assert data.count(before) >= 1
    assert len(before) == len(after)
    path.write_bytes(data.replace(before, after, 1))


def told(directory: Path, **options: object) -> list[str]:
    return [str(problem) for problem in check(directory, **options).problems]  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_set_is_whole(data: Path, workers: int) -> None:
    (data / "config.yaml").write_text("")
    (data / "notes.txt").write_text("")
    done = []
    report = check(
        data, decode=True, workers=workers, progress=lambda part, total: done.append((part, total))
    )
    assert (report.problems, report.others) == ([], ["notes.txt"])
    assert (report.shards, report.records, report.images) == (4, 10, 10)
    assert report.bytes == sum(path.stat().st_size for path in data.glob("*.tar"))
    assert len(done) == 4
    assert done[-1] == (report.bytes, report.bytes)


def test_all_that_is_wrong_is_told(data: Path) -> None:
    change(data / TEXTS, b"question 0", b"question O")
    change(data / TEXTS, b'"id": "t2"', b'"id"; "t2"')
    image = image_record(1).images[0].data or b""
    change(data / IMAGES, image, image[:-1] + b"?")
    (data / TEXTS.replace("000000", "000001")).unlink()
    (data / "stray.tar").write_bytes(b"")
    assert told(data) == [
        f"{IMAGES}: its content was changed or damaged (another sha256 than the manifest's)",
        f"{IMAGES}: key 00000001: an image is damaged or is another record's (its hash differs)",
        "stray.tar: not in the manifest; a shard of another build? Remove it",
        f"{TEXTS}: its content was changed or damaged (another sha256 than the manifest's)",
        f"{TEXTS}: key 00000002: its JSON is damaged (Expecting ':' delimiter: line 1 column 125 (char 124))",
        f"{TEXTS.replace('000000', '000001')}: missing, but the manifest lists it; build the data again",
    ]
    assert told(data, workers=2) == told(data, workers=1)


def test_a_row_that_is_gone_from_the_quarantine_is_told(tmp_path: Path) -> None:
    good = [{"prompt": f"q{number}", "chosen": "a", "rejected": "b"} for number in range(3)]
    rows = [*good, {"prompt": "q", "chosen": "a", "rejected": "a"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"type": "trl", "name": "t", "path": str(tmp_path / "rows.jsonl")}
    build(DataConfig.model_validate({"sources": [source], "max_rejected": 0.5}), tmp_path / "d")
    report = check(tmp_path / "d")
    assert (report.problems, report.others) == ([], [])
    (tmp_path / "d" / "quarantine" / "rows.jsonl").write_text("")
    assert told(tmp_path / "d") == ["quarantine/rows.jsonl: holds 0 rows, the manifest counts 1"]


def test_headers_that_break_the_rules_are_told_and_the_rest_is_read(data: Path) -> None:
    path = data / IMAGES
    whole = path.read_bytes()

    def renamed(old: bytes, new: bytes) -> bytes:
        # a header's checksum is the sum of its bytes; a letter up and a letter down leave it as it is
        assert sum(old) == sum(new)
        return whole.replace(old, new, 1)

    path.write_bytes(renamed(b"00000001.1.png", b"00000001.0.qng"))
    found = told(data)[1:]
    assert found[0] == (
        f"{IMAGES}: member '00000001.0.qng' is none of KEY.json, KEY.N.png, KEY.N.jpg, KEY.N.webp"
    )
    assert found[1].startswith(f"{IMAGES}: key 00000001: record i1: not in the form this version writes")
    assert len(found) == 2
    path.write_bytes(renamed(b"00000001.1.png", b"00000010.1.png"))
    assert told(data)[1:] == [
        f"{IMAGES}: key 00000001: record i1: not in the form this version writes "
        "(ValueError('zip() argument 2 is longer than argument 1'))",
        f"{IMAGES}: key 00000010: member '00000010.1.png' is out of order or its JSON is missing",
        f"{IMAGES}: holds 4 records, the manifest says 3",
    ]
    path.write_bytes(whole[: len(whole) // 2])
    found = told(data)
    assert "it is truncated or was changed" in found[0]
    assert "truncated" in found[-1]
    assert check(data).records == 8  # one of three is before the cut


def test_counts_that_are_not_true_are_told(data: Path) -> None:
    manifest = json.loads((data / MANIFEST).read_text())
    manifest["records"] = 11
    manifest["counts"]["train/preference/text"] = 6
    manifest["shards"][0]["objectives"] = {"factuality": 4}
    (data / MANIFEST).write_text(json.dumps(manifest))
    assert told(data) == [
        "manifest.json: says 11 records, its shards have 10",
        "manifest.json: says the counts {'train/preference/image-text': 5, 'train/preference/text': 6}, "
        "its shards have {'train/preference/image-text': 5, 'train/preference/text': 5}",
        f"{IMAGES}: holds the objectives {{'factuality': 3}}, the manifest says {{'factuality': 4}}",
    ]
    (data / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        check(data)


def test_yes_or_no_is_counted_apart(tmp_path: Path) -> None:
    rating = Rating("s", 0, value=1, low=0, high=1, kind="binary")
    write_shards([text_record(0, ratings=(rating,))], tmp_path / "d")
    assert told(tmp_path / "d") == []
    change(tmp_path / "d" / MANIFEST, b'"binaries": {\n    "s": 1', b'"binaries": {\n    "t": 1')
    assert told(tmp_path / "d") == [
        f"{TEXTS}: holds the binaries {{'s': 1}}, the manifest says {{'t': 1}}",
    ]


def test_a_record_that_is_there_twice_is_told(data: Path) -> None:
    again = TEXTS.replace("000000", "000007")
    shutil.copy(data / TEXTS, data / again)
    manifest = json.loads((data / MANIFEST).read_text())
    (shard,) = (shard for shard in manifest["shards"] if shard["name"] == TEXTS)
    manifest["shards"].append({**shard, "name": again})
    manifest["records"], manifest["counts"]["train/preference/text"] = 13, 8
    (data / MANIFEST).write_text(json.dumps(manifest))
    assert told(data) == [
        f"{name}: key {number:08d}: another record of words has the id 't{number}', too"
        for name in (TEXTS, again)
        for number in range(3)
    ]


def test_decoding_finds_what_the_hash_agrees_with(tmp_path: Path) -> None:
    refs = (
        ImageRef.of_bytes(png()),
        ImageRef.of_bytes(png()[:-20]),
    )  # the writer takes PNG bytes as they are
    write_shards([image_record(0, images=refs)], tmp_path / "d")
    assert told(tmp_path / "d") == []
    assert told(tmp_path / "d", decode=True) == [
        f"{IMAGES}: key 00000000: image 1: the PNG image is truncated: its end is missing"
    ]


@pytest.mark.parametrize("name", ["../x.tar", "pipe:touch ../ran", "https://x.org/x.tar"])
def test_a_name_that_leads_out_of_the_folder_is_not_followed(data: Path, name: str) -> None:
    shutil.copy(data / TEXTS, data.parent / "x.tar")
    manifest = json.loads((data / MANIFEST).read_text())
    manifest["shards"][0]["name"] = name
    (data / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="missing, but the manifest lists it"):
        open_records(data, "train")
    assert set(told(data)) == {
        f"{name}: missing, but the manifest lists it; build the data again",
        f"{IMAGES}: not in the manifest; a shard of another build? Remove it",
    }


def test_the_command(data: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(data), "--decode"])
    size = sum(path.stat().st_size for path in data.glob("*.tar"))
    assert done.exit_code == 0
    assert done.stdout == f"{data}: 4 shards, 10 records, 10 images, {size:,} bytes: whole\n"
    change(data / TEXTS, b'"id": "t2"', b'"id"; "t2"')
    (data / "notes.txt").write_text("")
    done = CliRunner().invoke(app, ["check", str(data), "--workers", "1"])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[1].startswith(f"{data / TEXTS}: key 00000002: its JSON is damaged")
    assert lines[2] == "Not part of the data set, and not looked at: notes.txt"
    assert lines[3] == f"{data}: 4 shards, 9 records, 10 images, {size:,} bytes: 2 problems"


@pytest.fixture
def restore(data: Path) -> Callable[[], Path]:
    """Puts the directory back as it was."""
    shutil.copytree(data, data.parent / "whole")

    def again() -> Path:
        shutil.rmtree(data)
        shutil.copytree(data.parent / "whole", data)
        return data

    return again


@given(draw=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_of_any_kind_is_told(restore: Callable[[], Path], draw: st.DataObject) -> None:
    """No crash, and nothing that was changed goes by."""
    directory = restore()
    path = directory / draw.draw(st.sampled_from([IMAGES, TEXTS]))
    body = bytearray(path.read_bytes())
    before = bytes(body)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, len(body) - 1))
        if draw.draw(st.booleans()):
            body[place] = draw.draw(st.integers(0, 255))
        else:
            del body[place : place + draw.draw(st.integers(1, 600))]
        if not body:
            break
    path.write_bytes(bytes(body))
    report = check(directory, decode=True, workers=1)
    assert bool(report.problems) == (bytes(body) != before)
    assert report.records <= 10
