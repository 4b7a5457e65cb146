from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from decisions import splits_of
from sample_records import image_record, png, text_record

from data_tools.build import DataConfig, build
from data_tools.config import parse_config
from data_tools.schema import ImageRef, PreferenceRecord, user
from data_tools.shards import open_records
from data_tools.splits import held_out, split_of

HALVES = {"train": 0.5, "test": 0.5}


def picture(number: int) -> ImageRef:
    return ImageRef.of_bytes(png((number % 256, number // 256, 7)))


def shows(name: str, *numbers: int, source: str = "pictures", **provenance: str) -> PreferenceRecord:
    """A record about some pictures."""
    images = tuple(picture(number) for number in numbers)
    return image_record(
        0,
        id=name,
        source=source,
        images=images,
        prompt=(user(*range(len(images)), "which?"),),
        scenes=(),
        provenance=provenance,
    )


def test_shares() -> None:
    found = Counter(split_of(f"g{number}", {"train": 0.8, "val": 0.1, "test": 0.1}) for number in range(2000))
    assert 1540 < found["train"] < 1660
    assert 140 < found["val"] < 260
    assert split_of("x", {"train": 1.0}) == "train"


def test_every_image_of_a_record_stays_in_its_split() -> None:
    """Chains of records that share one picture with the next; single pictures would fall on both sides."""
    single, _ = splits_of([shows(f"s{n}", n) for n in range(8)], {"pictures": HALVES})
    assert set(single) == {"train", "test"}
    chain = [shows(f"c{n}", n, n + 1) for n in range(7)]
    together, leaks = splits_of([*chain, shows("last", 7)], {"pictures": HALVES})
    assert (len(set(together)), leaks) == (1, {})
    # nor does the order of rows decide which it is
    assert set(splits_of(chain[::-1], {"pictures": HALVES})[0]) == set(together)


def test_a_picture_of_two_sources_lies_in_one_split() -> None:
    shares = {"a": {"train": 0.9, "test": 0.1}, "b": HALVES}
    for number in range(40):
        a = shows("a", number, source="a", flip="f1", group="g1")
        b = shows("b", number, source="b", flip="f1", group="g2")
        alone, _ = splits_of([a], shares)
        assert splits_of([a, b], shares)[0] == [alone[0], alone[0]]  # the shares of the first source
    # flip pairs and groups are named within a source: the same names in another mean nothing
    apart = [shows(f"{source}{n}", n, source=source, flip=f"f{n % 20}") for n in range(40) for source in "ab"]
    found, _ = splits_of(apart, {"a": HALVES, "b": HALVES})
    assert set(found) == {"train", "test"}


def test_flip_pairs_and_groups_stay_together() -> None:
    records = [shows(f"r{n}", n, **{kind: f"x{n // 2}"}) for kind in ("flip", "group") for n in range(20)]
    found, _ = splits_of(records, {"pictures": HALVES})
    assert all(a == b for a, b in zip(found[::2], found[1::2], strict=True))
    assert set(found) == {"train", "test"}


def test_a_question_counts_where_there_is_no_picture() -> None:
    records = [text_record(n // 2, id=f"t{n}", source="ab"[n % 2]) for n in range(20)]
    found, _ = splits_of(records, {"a": HALVES, "b": HALVES})
    assert all(a == b for a, b in zip(found[::2], found[1::2], strict=True))
    assert set(found) == {"train", "test"}
    # every one of these asks the same about its picture
    assert len(set(splits_of([shows(f"p{n}", n) for n in range(20)], {"pictures": HALVES})[0])) == 2


def test_a_fixed_split_is_kept_and_draws_others_to_it() -> None:
    shares = {"free": {"train": 0.999, "val": 0.001}, "dev": {"test": 1.0}}
    records = [shows("f1", 1, 2, source="free"), shows("d", 2, source="dev"), shows("f3", 3, source="free")]
    assert splits_of(records, shares) == (["test", "test", "train"], {})
    named = [shows("n", 1, source="free", split="held_out"), shows("f", 1, source="free")]
    assert splits_of(named, shares) == (["held_out", "held_out"], {})


def test_a_leak_of_the_input_is_kept_and_counted() -> None:
    shares = {"train_file": {"train": 1.0}, "test_file": {"test": 1.0}, "free": HALVES}
    records = [
        shows("a", 1, source="train_file"),
        shows("b", 1, source="test_file"),
        shows("c", 1, source="free"),
        shows("d", 2, source="test_file"),
    ]
    assert splits_of(records, shares) == (["train", "test", "train", "test"], {"test+train": 3})


def test_a_build_tells_of_leaks_and_keeps_what_is_fixed(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [{"prompt": f"q{n} {name * (n > 1)}", "chosen": "a", "rejected": "b"} for n in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = [
        {"type": "trl", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "splits": {name: 1.0}}
        for name in ("train", "test")
    ]
    report = build(parse_config({"sources": sources}, DataConfig, "x"), tmp_path / "d")
    # q0 and q1 stand in both files: a copy in the other split is no copy to be dropped
    assert report.leaks == {"test+train": 4}
    assert (report.records, report.duplicates) == (12, {})
    for name in ("train", "test"):
        assert {record.source for record in open_records(tmp_path / "d", name)} == {name}


def test_what_is_held_out_shares_nothing_with_the_rest() -> None:
    records = [shows(f"r{n}", n, n + 1000 * (n % 2)) for n in range(0, 200, 2)]
    records += [shows(f"again{n}", n, source="others") for n in range(0, 200, 2)]
    records += [
        shows(f"flip{n}{half}", 500 + 2 * n + half, flip=f"f{n}") for n in range(50) for half in (0, 1)
    ]
    out = held_out(records, 0.25)
    assert 0.15 < sum(out) / len(out) < 0.35
    assert out[:100] == out[100:200]
    assert out[200::2] == out[201::2]
    # neither the order nor the other records matter, and the splits say nothing of it
    assert held_out(records[::-1], 0.25) == out[::-1]
    quarters = {"train": 0.75, "test": 0.25}
    found, _ = splits_of(records, {"pictures": quarters, "others": quarters})
    both = sum(held and split == "test" for held, split in zip(out, found, strict=True))
    assert 0 < both < sum(out)
    assert held_out(records, 0.0) == [False] * 300
