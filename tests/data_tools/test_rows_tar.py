"""WebDataset tars that others wrote: what a sample becomes, and what is refused or told."""

from __future__ import annotations

import gzip
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tar_files import special, tar_bytes

from data_tools.rows import tar
from data_tools.rows.open import all_rows, pieces
from data_tools.rows.sample import DOTS
from data_tools.source import Rejected

PNG = b"not decoded here"
BLOCK = 512


def rows_of(path: Path, data: bytes) -> list[Any]:
    path.write_bytes(data)
    return list(all_rows(path))


def row_of(tmp_path: Path, *members: tuple[str, bytes | str]) -> Any:
    """The row of one sample, or its reason and code."""
    (found,) = rows_of(tmp_path / "x.tar", tar_bytes([(f"k.{suffix}", data) for suffix, data in members]))
    return (found.reason, found.code) if isinstance(found, Rejected) else found[1]


def image(suffix: str, data: bytes = PNG) -> dict[str, Any]:
    return {"bytes": data, "path": f"k.{suffix}"}


def test_samples_in_their_order(tmp_path: Path) -> None:
    data = tar_bytes(
        [
            special("d", tarfile.DIRTYPE),
            ("./d/a.json", '{"q": 1}'),
            ("./d/a.JPG", PNG),
            ("d/._a.json", b"of macOS"),
            ("b.json", '{"q": 2}'),
        ]
    )
    expected = [
        ("x:d/a", {"q": 1, "image": {"bytes": PNG, "path": "d/a.JPG"}}),
        ("x:b", {"q": 2}),
    ]
    assert rows_of(tmp_path / "x", data) == expected
    assert rows_of(tmp_path / "x", gzip.compress(data)) == expected
    assert [(piece.form, piece.start, piece.stop) for piece in pieces(tmp_path / "x")] == [("tar", 0, None)]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names(form: int, tmp_path: Path) -> None:
    key = "/".join(["f" * 50] * 4) + "/key"
    if form != tarfile.USTAR_FORMAT:
        key = "\u00e9" * 100 + "/" + key
    found = rows_of(tmp_path / "x", tar_bytes([(f"{key}.json", "{}"), (f"{key}.txt", "hi")], form))
    assert found == [(f"x:{key}", {"txt": "hi"})]


def test_where_images_and_texts_go(tmp_path: Path) -> None:
    one, two = b"one", b"two"
    assert row_of(tmp_path, ("json", '{"q": 1}'), ("png", one)) == {"q": 1, "image": image("png", one)}
    assert row_of(tmp_path, ("json", '{"images": []}'), ("png", one)) == {"images": [image("png", one)]}
    assert row_of(tmp_path, ("json", '{"images": [], "image": 0}'), ("png", one)) == {
        "images": [],
        "image": image("png", one),
    }
    assert row_of(tmp_path, ("json", "{}"), ("1.png", two), ("0.jpg", one)) == {
        "images": [image("0.jpg", one), image("1.png", two)]
    }
    # the hashes that our own shards have in the images' place
    assert row_of(tmp_path, ("json", '{"images": [{"sha256": "x"}]}'), ("0.png", one)) == {
        "images": [image("0.png", one)]
    }
    assert row_of(tmp_path, ("left.png", one), ("right.0.png", two), ("txt", "a"), ("chosen.txt", "b")) == {
        "left": image("left.png", one),
        "right": [image("right.0.png", two)],
        "txt": "a",
        "chosen": "b",
    }
    assert row_of(tmp_path, ("meta.json", "[1]"), ("cls", "3")) == {"meta": [1], "cls": "3"}


def test_images_that_the_row_names_take_that_place(tmp_path: Path) -> None:
    one, two = b"one", b"two"
    named = '{"img_path": "k.png", "q": "k.jpg is a name within a text"}'
    assert row_of(tmp_path, ("json", named), ("png", one)) == {
        "img_path": image("png", one),
        "q": "k.jpg is a name within a text",
    }
    listed = '{"pics": ["k.1.png", "other.png", "k.0.png"]}'
    assert row_of(tmp_path, ("json", listed), ("0.png", one), ("1.png", two)) == {
        "pics": [image("1.png", two), "other.png", image("0.png", one)]
    }
    # what an image is called is told, and the image has its own place
    called = '{"image_name": "k.png", "q": "k.png"}'
    assert row_of(tmp_path, ("json", called), ("png", one)) == {
        "image_name": "k.png",
        "q": "k.png",
        "image": image("png", one),
    }
    assert row_of(tmp_path, ("json", '{"Image": "k.png"}'), ("png", one)) == {"Image": image("png", one)}
    both = '{"image": "k.png", "image_path": "k.png"}'
    assert row_of(tmp_path, ("json", both), ("png", one)) == {
        "image": image("png", one),
        "image_path": "k.png",
    }
    struct = '{"image": {"bytes": null, "path": "k.a.png"}}'
    assert row_of(tmp_path, ("json", struct), ("a.png", one)) == {"image": image("a.png", one)}


@pytest.mark.parametrize("ending", ["avif", "heic", "heif", "jfif", "jp2", "tiff"])
def test_photos_of_phones_and_cameras_are_images(ending: str, tmp_path: Path) -> None:
    """Whether they can be decoded is the decoder's to say."""
    assert row_of(tmp_path, ("json", "{}"), (ending, PNG)) == {"image": image(ending)}
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "rows.jsonl").write_text('{"q": 1}')
    (tmp_path / "rows" / f"a.{ending.upper()}").write_bytes(b"text that would be a damaged line")
    assert list(all_rows(tmp_path / "rows")) == [("rows.jsonl:1", {"q": 1})]


@pytest.mark.parametrize(
    ("members", "reason", "code"),
    [
        ([("json", "{")], "not valid JSON", "row-unreadable"),
        ([("json", "[1]"), ("png", PNG)], "its JSON is no object", "row-unreadable"),
        ([("json", "{}"), ("json", "{}")], "two of its members are for one field", "row-unreadable"),
        ([("png", PNG), ("jpg", PNG)], "two of its members are for one field", "row-unreadable"),
        ([("0.png", PNG), ("2.png", PNG)], "its images aren't numbered 0, 1, 2 ...", "row-unreadable"),
        ([("1.png", PNG)], "its images aren't numbered 0, 1, 2 ...", "row-unreadable"),
        (
            [("json", '{"images": [1, 2]}'), ("0.png", PNG)],
            "its JSON tells of another number of images than it has",
            "row-unreadable",
        ),
        ([("txt", b"\xff")], "a text is not UTF-8", "text-damaged"),
        ([("json", "{}"), ("mp4", b"")], "has a member .mp4, which isn't read", "not-supported"),
    ],
)
def test_samples_that_are_no_row(
    members: list[tuple[str, bytes | str]], reason: str, code: str, tmp_path: Path
) -> None:
    assert row_of(tmp_path, *members) == (reason, code)


class Trap:
    """What a pickle could do to the one who loads it."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("suffix", ["pkl", "pickle", "pyd", "pth", "pt", "npy", "npz", "label.PKL"])
def test_pickles_are_never_opened(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = suffix.lower().rpartition(".")[2]
    assert row_of(tmp_path, ("json", "{}"), (suffix, pickle.dumps(Trap()))) == (
        f"has a member .{kind}, which can hold a pickle and is never opened",
        "not-supported",
    )
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("../../etc/x.json", "../../etc/x.json"),
        ("a/../b.json", "a/../b.json"),
        ("a\\b.json", "a\\\\b.json"),
        ("C:x.json", "C:x.json"),
        ("a\x1b[2J.json", "a\\x1b[2J.json"),
    ],
)
def test_unsafe_names_are_refused(name: str, key: str, tmp_path: Path) -> None:
    data = tar_bytes([("a.json", "{}"), (name, "{}"), ("b.json", "{}")])
    assert rows_of(tmp_path / "x", data) == [
        ("x:a", {}),
        Rejected(
            "a member's name leads out of its folder, or is no plain text",
            f"x:{key}",
            "row-unreadable",
            {"members": [name]},
        ),
        ("x:b", {}),
    ]


def test_absolute_names_and_nul_are_refused(tmp_path: Path) -> None:
    absolute = tar_bytes([("xetc/passwd.json", "{}")]).replace(b"xetc/", b"/etc/")
    # the checksum of the changed header
    name = tarfile.TarInfo("/etc/passwd.json")
    name.size = 2
    absolute = name.tobuf(tarfile.USTAR_FORMAT) + absolute[BLOCK:]
    (found,) = rows_of(tmp_path / "x", absolute)
    assert (found.where, found.code) == ("x:/etc/passwd.json", "row-unreadable")
    pax = tar_bytes([("\u00e9a_b.json", "{}")], tarfile.PAX_FORMAT).replace(b"a_b.json", b"a\0b.json", 1)
    (found,) = rows_of(tmp_path / "x", pax)
    assert found.where == "x:\\xe9a\\x00b.json"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    data = tar_bytes([("a.json", "{}"), special("a.png", kind, "/etc/passwd"), ("b.json", "{}")])
    assert rows_of(tmp_path / "x", data) == [
        Rejected(
            "a member is a link, a device or a sparse file",
            "x:a",
            "not-supported",
            {"members": ["a.json", "a.png"]},
        ),
        ("x:b", {}),
    ]


def test_a_key_in_two_places_is_one_rejected_row(tmp_path: Path) -> None:
    data = tar_bytes(
        [
            ("a.json", "{}"),
            ("b.json", "{}"),
            ("a.png", PNG),
            ("c.json", "{}"),
            ("a.txt", "x"),
            ("d.json", "{}"),
        ]
    )
    torn = Rejected(
        "its members aren't side by side", "x:a", "row-unreadable", {"members": ["a.json", "a.png", "a.txt"]}
    )
    assert rows_of(tmp_path / "x", data) == [("x:b", {}), ("x:c", {}), torn, ("x:d", {})]


MEMBERS = [
    (f"{key}.{suffix}", data) for key in "abc" for suffix, data in (("json", "{}"), ("png", b"p" * 700))
]
# where the six members begin, each a header and 1 or 2 blocks
STARTS = [0, 2 * BLOCK, 5 * BLOCK, 7 * BLOCK, 10 * BLOCK, 12 * BLOCK]


def full(key: str) -> tuple[str, Any]:
    return f"x:{key}", {"image": {"bytes": b"p" * 700, "path": f"{key}.png"}}


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, compresslevel=0)])
@pytest.mark.parametrize(
    ("cut", "whole", "torn"),
    [
        (STARTS[4] + 100, ["a"], "b"),  # within a header: b may have had more members
        (STARTS[4], ["a"], "b"),
        (STARTS[4] + BLOCK, ["a", "b"], "c"),
        (STARTS[5] + BLOCK + 600, ["a", "b"], "c"),
        (STARTS[5] + BLOCK + 699, ["a", "b"], "c"),
        (15 * BLOCK, ["a", "b"], "c"),  # all that's missing is the end mark
        (STARTS[1] + 20, [], "a"),
    ],
)
def test_a_tar_cut_short_gives_no_partial_sample(
    cut: int, whole: list[str], torn: str, pack: Any, tmp_path: Path
) -> None:
    *rows, last, rest = rows_of(tmp_path / "x", pack(tar_bytes(MEMBERS)[:cut]))
    assert rows == [full(key) for key in whole]
    assert (last.where, last.code, last.reason) == (
        *(f"x:{torn}", "row-unreadable"),
        "the archive is cut short in this sample",
    )
    assert rest.reason == "the archive is cut short; nothing after it can be read"
    assert rest.where.startswith("x:byte ")


def test_damage_within_a_tar_is_told(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(MEMBERS))
    data[STARTS[3] + 3] ^= 1  # the name of b.png, whose header's checksum is wrong then
    *rows, last, rest = rows_of(tmp_path / "x", bytes(data))
    assert rows == [full("a")]
    assert (last.where, last.reason) == ("x:b", "the archive is damaged in this sample")
    assert (rest.where, rest.reason) == (
        *(f"x:byte {STARTS[3] + BLOCK}", "the archive is damaged; nothing after it can be read"),
    )
    packed = gzip.compress(tar_bytes(MEMBERS), compresslevel=0)
    *rows, rest = rows_of(tmp_path / "x", packed[:-6])  # only the gzip's end is missing
    assert rows == [full(key) for key in "abc"]
    assert rest.reason == "the gzip file is cut short; nothing after it can be read"


def test_what_follows_the_end_mark_is_told(tmp_path: Path) -> None:
    one = tar_bytes(MEMBERS)
    *rows, rest = rows_of(tmp_path / "x", one + one)
    assert rows == [full(key) for key in "abc"]
    assert rest.reason == "there is more behind the archive's end mark"
    assert rows_of(tmp_path / "x", one + bytes(5000)) == [full(key) for key in "abc"]
    assert rows_of(tmp_path / "x.tar", bytes(10240)) == []  # an empty archive


def test_members_that_claim_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_SAMPLE", 1000)
    data = tar_bytes([("a.json", "{}"), ("a.0.png", b"p" * 500), ("a.1.png", b"p" * 500), ("b.json", "{}")])
    first, second = rows_of(tmp_path / "x", data)
    assert (first.reason, first.code) == ("its members have too many bytes", "not-supported")
    assert second == ("x:b", {})
    # sizes that no file has: in the header's binary form, and as PAX
    info = tarfile.TarInfo("a.json")
    info.size = 2**70
    header = info.tobuf(tarfile.GNU_FORMAT)
    (rest,) = rows_of(tmp_path / "x", header + bytes(BLOCK))
    assert rest.reason == "the archive is damaged; nothing after it can be read"
    info.size, info.pax_headers = 2, {"size": "1" + "0" * 17}
    (rest,) = rows_of(tmp_path / "x", info.tobuf(tarfile.PAX_FORMAT) + bytes(BLOCK))
    assert rest.reason == "the archive is damaged; nothing after it can be read"
    info.pax_headers = {"size": "1000000000"}
    torn, rest = rows_of(tmp_path / "x", info.tobuf(tarfile.PAX_FORMAT) + bytes(BLOCK))
    assert torn.where == "x:a"
    assert rest.reason == "the archive is cut short; nothing after it can be read"


@pytest.mark.parametrize(
    "names",
    [("22.05_a", "22.06_b", "22.07_c"), ("shot.001", "shot.002"), ("d/v1.5", "d/v1.6"), ("only.one",)],
)
@pytest.mark.parametrize("pictures", [True, False])
def test_dots_in_names_are_told(names: tuple[str, ...], pictures: bool, tmp_path: Path) -> None:
    """By the rule of WebDataset these are one sample, of which the fields are called as the rest of the names."""
    row = '{"prompt": "What?", "chosen": "A.", "rejected": "B."}'
    members: list[tuple[str, bytes | str]] = [(f"{name}.json", row) for name in names]
    if pictures:
        members = [member for name in names for member in ((f"{name}.json", row), (f"{name}.png", PNG))]
    elif len(names) == 1:
        return  # a field of one sample, as far as can be told
    (found,) = rows_of(tmp_path / "x.tar", tar_bytes(members))
    key = names[0].partition(".")[0]
    listed = {"members": [name for name, _ in members]}
    assert found == Rejected(DOTS, f"x.tar:{key}", "row-unreadable", listed)


def test_fields_in_members_of_their_own_are_no_samples(tmp_path: Path) -> None:
    message = '{"role": "assistant", "content": "A."}'
    assert set(row_of(tmp_path, ("chosen.json", message), ("rejected.json", message), ("png", PNG))) == {
        *("chosen", "rejected", "image")
    }
    assert set(row_of(tmp_path, ("json", '{"a": 1}'), ("mask.json", '{"b": 1}'), ("mask.png", PNG))) == {
        "a",
        "mask",
    }


def test_dots_of_members_that_lie_apart_are_told(tmp_path: Path) -> None:
    data = tar_bytes([(f"{name}.json", "{}") for name in ("a.1", "b.1", "a.2", "b.2")])
    reasons = {found.reason for found in rows_of(tmp_path / "x.tar", data)}
    assert reasons == {"its members aren't side by side (a key ends at the first dot)"}
