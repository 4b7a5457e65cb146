from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_records import image_record, png, text_record

from data_tools import tar
from data_tools.errors import UserError
from data_tools.manifest import MANIFEST, read_manifest
from data_tools.schema import ImageRef, PreferenceRecord, Ranking, Rating, Response, user
from data_tools.shards import kind_of, open_records, write_shards

Members = list[tuple[str, bytes]]


def mixed() -> list[PreferenceRecord]:
    """Rows with and without images by turns, of two splits and three kinds."""
    records = []
    for number in range(6):
        records += [text_record(number), image_record(number)]
    records.append(text_record(90, split="test"))
    records.append(text_record(91, responses=(Response("only"),), comparisons=()))
    records.append(text_record(92, responses=(), comparisons=()))
    return records


def test_records_come_back_equal(tmp_path: Path) -> None:
    records = mixed()
    infos = write_shards(records, tmp_path / "d", max_records=4, extra={"note": "x"})
    train = open_records(tmp_path / "d", "train", verify=True)
    assert len(train) == 14
    found = {record.id: record for record in train}
    assert found == {record.id: record for record in records if record.split == "train"}
    assert [record.id for record in open_records(tmp_path / "d", "test")] == ["t90"]
    assert [info.name for info in infos] == [
        "pictures-preference-image-text-train-000000.tar",
        "pictures-preference-image-text-train-000001.tar",
        "words-demonstration-text-train-000000.tar",
        "words-preference-text-test-000000.tar",
        "words-preference-text-train-000000.tar",
        "words-preference-text-train-000001.tar",
        "words-prompt-text-train-000000.tar",
    ]
    manifest = json.loads((tmp_path / "d" / MANIFEST).read_text())
    assert manifest["extra"] == {"note": "x"}
    assert manifest["counts"]["train/preference/image-text"] == 6
    assert manifest["shards"][0]["objectives"] == {"factuality": 4}
    first = tmp_path / "d" / infos[0].name
    assert infos[0].sha256 == hashlib.sha256(first.read_bytes()).hexdigest()


def test_kinds_strata_and_meta(tmp_path: Path) -> None:
    write_shards(mixed(), tmp_path / "d")
    pairs = open_records(tmp_path / "d", "train", kind="preference")
    assert pairs.strata == [("pictures", "image-text")] * 6 + [("words", "text")] * 6
    assert pairs.meta(1)["id"] == "i1"
    assert pairs[-1].id == "t5"
    assert [record.id for record in pairs[:2]] == ["i0", "i1"]
    assert [record.id for record in open_records(tmp_path / "d", "train", kind="prompt")] == ["t92"]
    with pytest.raises(IndexError):
        pairs[12]
    with pytest.raises(UserError, match=r"no split 'val'; it has: test, train"):
        open_records(tmp_path / "d", "val")
    with pytest.raises(UserError, match=r"its test split has no prompt records; it has: preference"):
        open_records(tmp_path / "d", "test", kind="prompt")
    again = pickle.loads(pickle.dumps(pairs))  # a worker process gets it this way
    assert again[3] == pairs[3]


def test_a_rated_single_answer_is_a_preference() -> None:
    rated = text_record(
        0, responses=(Response("a"),), comparisons=(), ratings=(Rating("h", 0, value=1, low=0, high=1),)
    )
    assert kind_of(rated) == "preference"


def test_comparisons_and_ratings_are_counted_apart(tmp_path: Path) -> None:
    ratings = (
        Rating("h", 0, value=1, low=0, high=1),
        Rating("h", 1, value=0, low=0, high=1),
        Rating("s", 1, value=0, low=0, high=1, kind="binary"),
    )
    (info,) = write_shards([text_record(0, ratings=ratings), text_record(1)], tmp_path / "d")
    assert (info.objectives, info.ratings) == ({"helpfulness": 2}, {"h": 2, "s": 1})
    assert info.binaries == {"s": 1}
    assert read_manifest(tmp_path / "d").shards == (info,)


def test_a_ranking_is_judged_and_counted(tmp_path: Path) -> None:
    ranked = text_record(0, comparisons=(), rankings=(Ranking("h", ((0,), (1,))),))
    (info,) = write_shards([ranked], tmp_path / "d")
    assert (info.kind, info.objectives, info.rankings, info.judged) == ("preference", {}, {"h": 1}, {"h"})
    assert list(open_records(tmp_path / "d", "train")) == [ranked]


def test_an_outline_names_images_and_reads_none(tmp_path: Path) -> None:
    write_shards([image_record(0)], tmp_path / "d")
    records = open_records(tmp_path / "d", "train")
    outline, whole = records.outline(0), records[0]
    assert [image.sha256 for image in outline.images] == [image.sha256 for image in whole.images]
    assert all(image.data is None for image in outline.images)
    assert dataclasses.replace(outline, images=whole.images) == whole


def test_modalities_never_share_a_tar(tmp_path: Path) -> None:
    write_shards(mixed(), tmp_path / "d")
    for path in (tmp_path / "d").glob("*.tar"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
        images = [name for name in names if name.endswith(".png")]
        assert len(images) == (2 * (len(names) // 3) if "image-text" in path.name else 0)


def test_the_same_records_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(mixed(), tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 0.0)
    os.umask(os.umask(0))
    write_shards(mixed(), tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


# that library leaves closing the tar to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    records = [image_record(number) for number in range(3)]
    info = write_shards(records, tmp_path / "d")[0]
    source = webdataset.WebDataset(str(tmp_path / "d" / info.name), shardshuffle=False)
    samples = list(source)
    assert [sample["__key__"] for sample in samples] == ["00000000", "00000001", "00000002"]
    for sample, record in zip(samples, records, strict=True):
        assert json.loads(sample["json"])["id"] == record.id
        assert sample["0.png"] == record.images[0].data
        assert sample["1.png"] == record.images[1].data


def test_other_image_formats_become_png_and_paths_become_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), (7, 8, 9)).save(buffer, "BMP")
    (tmp_path / "x.png").write_bytes(png((1, 1, 1)))
    refs = (ImageRef.of_bytes(buffer.getvalue()), ImageRef(path=str(tmp_path / "x.png")))
    write_shards([image_record(0, images=refs)], tmp_path / "d")
    first, second = open_records(tmp_path / "d", "train")[0].images
    assert (first.data or b"").startswith(b"\x89PNG")
    assert second.data == png((1, 1, 1))
    assert str(tmp_path) not in json.dumps(open_records(tmp_path / "d", "train").meta(0))


def test_a_bad_image_or_name_stops_the_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="record i0 of pictures"):
        write_shards(
            [image_record(0, images=(ImageRef.of_bytes(b"x"), ImageRef.of_bytes(png())))], tmp_path / "a"
        )
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(UserError, match=r"source '../x' can't be part of a file name"):
        write_shards([text_record(0, source="../x")], tmp_path / "b")
    with pytest.raises(UserError, match="can't be written as JSON"):
        write_shards([text_record(0, reference={"x": float("nan")})], tmp_path / "c")
    for fields in ({"\ud800": 1}, {"longer": 1, "\ud800": 1}):  # the same words wherever it is
        with pytest.raises(
            UserError, match=r"can't be written as JSON \(it holds half a character, a lone surr"
        ):
            write_shards([text_record(0, reference=fields)], tmp_path / "c")
    write_shards([text_record(0)], tmp_path / "d")
    with pytest.raises(UserError, match="already holds a finished data set"):
        write_shards([text_record(1)], tmp_path / "d")


def test_a_full_disk_is_told_and_finished_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, calls = tar.TarWriter.add, []

    def failing(self: tar.TarWriter, name: str, data: bytes) -> None:
        calls.append(name)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, name, data)

    monkeypatch.setattr(tar.TarWriter, "add", failing)
    with pytest.raises(UserError, match=r"d: the disk is full"):
        write_shards([text_record(number) for number in range(9)], tmp_path / "d", max_records=2)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "words-preference-text-train-000000.tar",
        "words-preference-text-train-000001.tar",
    ]
    with pytest.raises(UserError, match="no finished data set"):
        open_records(tmp_path / "d", "train")


def damaged(tmp_path: Path, members: Members, records: int = 1, modality: str = "text") -> Path:
    """A data directory whose one shard holds these members."""
    directory = tmp_path / "damaged"
    directory.mkdir(exist_ok=True)
    path = directory / "s-000000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    write_manifest(directory, path, records, modality)
    return directory


def write_manifest(directory: Path, path: Path, records: int, modality: str) -> None:
    shard = {
        "name": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "records": records,
        "bytes": path.stat().st_size,
        "source": "words" if modality == "text" else "pictures",
        "kind": "preference",
        "modality": modality,
        "split": "train",
        "objectives": {},
    }
    row = {
        "format": "mmrlhf-shards",
        "version": 1,
        "records": records,
        "counts": {},
        "shards": [shard],
        "extra": {},
    }
    (directory / MANIFEST).write_text(json.dumps(row))


def members_of(record: PreferenceRecord, tmp_path: Path) -> Members:
    """The members that the writer makes of a record."""
    directory = tmp_path / f"of-{record.id}"
    name = write_shards([record], directory)[0].name
    with tarfile.open(directory / name) as archive:
        return [(member.name, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../../etc/x.json"], "is none of KEY.json"),
        (["/abs.json"], "is none of KEY.json"),
        (["A.json"], "is none of KEY.json"),
        (["a.pkl"], "is none of KEY.json"),
        (["a.pyd"], "is none of KEY.json"),
        (["a.json", "a.json"], "out of order"),
        (["a.0.png", "a.json"], "its JSON is missing"),
        (["a.json", "a.1.png"], "out of order"),
        (["a.json", "a.0.png"], "has images in a text-only shard"),
        (["a.json", "b.json", "a.0.png"], "key a: its members are not adjacent"),
        (["a.json", "b.json"], "holds 2 records, the manifest says 1"),
        ([], "holds 0 records, the manifest says 1"),
    ],
)
def test_what_breaks_the_format_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    directory = damaged(tmp_path, [(name, b"{}") for name in names])
    with pytest.raises(UserError, match=message) as told:
        open_records(directory, "train")
    assert "s-000000.tar" in str(told.value)


def test_a_partial_sample_is_refused(tmp_path: Path) -> None:
    whole = members_of(image_record(5), tmp_path)
    assert [name for name, _ in whole] == ["00000000.json", "00000000.0.png", "00000000.1.png"]
    assert len(open_records(damaged(tmp_path, whole, modality="image-text"), "train")[0].images) == 2
    with pytest.raises(UserError, match="key 00000000: lacks its images"):
        open_records(damaged(tmp_path, whole[:1], modality="image-text"), "train")
    one_short = open_records(damaged(tmp_path, whole[:2], modality="image-text"), "train")
    with pytest.raises(UserError, match="key 00000000: record i5"):
        one_short[0]
    swapped = [whole[0], (whole[1][0], whole[2][1]), whole[2]]
    with pytest.raises(UserError, match="key 00000000: an image is damaged or is another record's"):
        open_records(damaged(tmp_path, swapped, modality="image-text"), "train")[0]


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"{}", b'{"id": 3}', b"[" * 100_000])
def test_damaged_json_names_shard_and_key(tmp_path: Path, body: bytes) -> None:
    records = open_records(damaged(tmp_path, [("k.json", body)]), "train")
    with pytest.raises(UserError, match=r"s-000000\.tar: key k: "):
        records[0]


def test_a_record_in_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    members = members_of(text_record(0, source="others"), tmp_path)
    with pytest.raises(UserError, match="which this shard must not hold"):
        open_records(damaged(tmp_path, members), "train")[0]


def test_links_and_pipes_in_a_tar_are_refused(tmp_path: Path) -> None:
    directory = damaged(tmp_path, [])
    path = directory / "s-000000.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    write_manifest(directory, path, 1, "text")
    with pytest.raises(UserError, match="no plain file"):
        open_records(directory, "train")


def test_truncated_tars_are_refused_at_any_length(tmp_path: Path) -> None:
    members = members_of(text_record(0), tmp_path)
    directory = damaged(tmp_path, members)
    path = directory / "s-000000.tar"
    whole = path.read_bytes()
    end = 512 + 512 * -(-len(members[0][1]) // 512)
    for length in (0, 100, 512, 700, end, end + 100, end + 512):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="bytes, the manifest says"):
            open_records(directory, "train")
        write_manifest(directory, path, 1, "text")  # even if the manifest had been made to fit
        with pytest.raises(UserError, match=r"truncated|damaged"):
            open_records(directory, "train")
    path.write_bytes(whole[:end] + bytes(1024))
    write_manifest(directory, path, 1, "text")
    assert open_records(directory, "train")[0].id == "t0"


def test_missing_extra_and_changed_shards_are_refused(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    info = write_shards([text_record(0)], directory)[0]
    path = directory / info.name
    data = bytearray(path.read_bytes())
    place = data.index(b"question 0")
    data[place] = ord("Q")
    path.write_bytes(bytes(data))
    assert open_records(directory, "train")[0].prompt[0].text == "Question 0"
    with pytest.raises(UserError, match="changed or damaged"):
        open_records(directory, "train", verify=True)
    (directory / "stray-000000.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"stray-000000\.tar: not in the manifest"):
        open_records(directory, "train")
    (directory / "stray-000000.tar").unlink()
    path.unlink()
    with pytest.raises(UserError, match="missing, but the manifest lists it"):
        open_records(directory, "train")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"format": "other"}', "\xff"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    write_shards([text_record(0)], tmp_path / "d")
    (tmp_path / "d" / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        open_records(tmp_path / "d", "train")
    with pytest.raises(UserError, match="no such folder"):
        open_records(tmp_path / "nowhere", "train")


def test_another_version_is_refused(tmp_path: Path) -> None:
    write_shards([text_record(0)], tmp_path / "d")
    path = tmp_path / "d" / MANIFEST
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="of version 2"):
        open_records(tmp_path / "d", "train")


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_shard_gives_the_records_or_a_user_error(tmp_path: Path, data: st.DataObject) -> None:
    directory = tmp_path / "fuzz"
    if not directory.exists():
        write_shards([image_record(0), image_record(1)], directory)
        (tmp_path / "whole").write_bytes(next(directory.glob("*.tar")).read_bytes())
    path = next(directory.glob("*.tar"))
    body = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        # headers and JSON are where damage could mislead; most of the rest is caught by the hash of the image
        body[data.draw(st.integers(0, min(3000, len(body) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(body))
    try:
        records = list(open_records(directory, "train"))
    except UserError:
        return
    assert all(len(record.images) == 2 for record in records)


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    directory = tmp_path_factory.mktemp("d") / "d"
    record = text_record(
        0, prompt=tuple(user(text) for text in texts), responses=(Response(texts[0]), Response("x"))
    )
    write_shards([record], directory)
    assert open_records(directory, "train")[0] == record


def test_a_record_takes_few_bytes_and_its_headers_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards([image_record(number) for number in range(200)], tmp_path / "d", max_records=60)
    plain, read = tar._plain, []

    def counting(header: bytes) -> tuple[str, int] | None:
        read.append(header)
        return plain(header)

    monkeypatch.setattr(tar, "_plain", counting)
    records = open_records(tmp_path / "d", "train")
    assert len(read) == 600  # a JSON and two images each
    # of each record the place of its JSON and the number of its first member, and three sizes: 40 bytes
    assert len(pickle.dumps(records)) < 200 * 40 + 4 * 400 + 800
    assert records.image_counts == [2] * 200
    assert records.repeats == [1.0] * 200
    assert [records[index].id for index in (0, 59, 60, 199, -1, -200)] == [
        *("i0", "i59", "i60", "i199", "i199", "i0"),
    ]
    assert [record.id for record in records[118:122]] == ["i118", "i119", "i120", "i121"]
    for index in (200, -201):
        with pytest.raises(IndexError):
            records[index]
        with pytest.raises(IndexError):
            records.meta(index)
