from __future__ import annotations

import dataclasses
import gzip
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from decisions import splits_of
from sample_records import pixel, png

from data_tools.adapters import nlvr
from data_tools.images import decode_image, read_image
from data_tools.scenes.nlvr import scene_from_nlvr
from data_tools.schema import Comparison, Message, Part, PreferenceRecord
from data_tools.source import Read, Rejected

BOX = [{"y_loc": 47, "type": "circle", "color": "Yellow", "x_loc": 90, "size": 10}]
ROW: dict[str, Any] = {
    "sentence": "There is  a circle",
    "label": "true",
    "identifier": "12-3",
    "directory": "2",
    "structured_rep": [
        BOX,
        [],
        [{"y_loc": 80, "type": "square", "color": "#0099ff", "x_loc": 0, "size": 20}],
    ],
}


def good(result: PreferenceRecord | Read) -> PreferenceRecord:
    if isinstance(result, tuple):
        (result,) = result
    assert isinstance(result, PreferenceRecord), result
    return result


def reason(result: PreferenceRecord | Read) -> str:
    assert isinstance(result, Rejected)
    return result.reason


@pytest.fixture
def nlvr_config(tmp_path: Path) -> nlvr.NlvrConfig:
    folder = tmp_path / "images" / "2"
    folder.mkdir(parents=True)
    for group, member in ((12, 3), (12, 4), (12, 5), (13, 0), (13, 1), (14, 0)):
        for k in range(2):
            (folder / f"dev-{group}-{member}-{k}.png").write_bytes(png((group, member, k)))
    return nlvr.NlvrConfig(name="nlvr", path=tmp_path / "dev.json")


def test_nlvr_row(nlvr_config: nlvr.NlvrConfig) -> None:
    record = good(nlvr_config.adapt(ROW))
    assert record.id == "nlvr-12-3-0"
    assert record.prompt == (
        Message("user", (Part(image=0), Part(text='Is this true of the picture? "There is a circle"'))),
    )
    assert [response.text for response in record.responses] == ["Yes.", "No."]
    (comparison,) = record.comparisons
    assert (comparison.objective, comparison.better, comparison.judge) == ("factuality", 0, "human")
    assert record.reference == {"answer": "yes"}
    assert read_image(record.images[0]).getpixel((0, 0)) == (12, 3, 0)
    assert record.scenes[0]["objects"] == [
        {"shape": "circle", "color": "yellow", "size": "small", "x": 95 / 400, "y": 0.52},
        {"shape": "square", "color": "blue", "size": "medium", "x": 310 / 400, "y": 0.9},
    ]
    no = good(nlvr_config.adapt({**ROW, "label": "false"}))
    assert no.comparisons[0].better == 1
    assert no.reference == {"answer": "no"}


def test_nlvr_votes(nlvr_config: nlvr.NlvrConfig) -> None:
    evals = {"r6": "false", "r1": "true", "r0": "true", "r9": "nonsense", "r2": None, "r3": "true"}
    record = good(nlvr_config.adapt({**ROW, "evals": evals}))
    assert record.votes == (
        Comparison("factuality", better=0, worse=1, judge="r0"),
        Comparison("factuality", better=0, worse=1, judge="r1"),
        Comparison("factuality", better=0, worse=1, judge="r3"),
        Comparison("factuality", better=1, worse=0, judge="r6"),
    )
    assert record.comparisons == (Comparison("factuality", better=0, worse=1, judge="human"),)
    assert record.provenance == {
        "group": "12",
        "sentence": "There is a circle",
        "permutation": 0,
        "nonsense": ["r9"],
    }
    assert good(nlvr_config.adapt(ROW)).votes == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"evals": ["true"]}, "evals is no object of raters and what they said"),
        ({"evals": {"r0": "maybe"}}, "a rater of evals said none of true, false, nonsense"),
        ({"evals": {"r0": ["true"]}}, "a rater of evals said none of true, false, nonsense"),
        ({"evals": {"\ud800": "true"}}, "a rater of evals holds half a character (a lone surrogate)"),
        ({"label": "maybe"}, 'label is neither "true" nor "false"'),
        ({"label": True}, "label is no text"),
        ({"identifier": "../../x"}, "identifier is not of the form n-m"),
        ({"identifier": "99-0"}, "an image no such image file"),
        ({"directory": ".."}, "directory is no plain name"),
        ({"sentence": " "}, "sentence is empty"),
        ({"sentence": "a\ud800"}, "sentence holds half a character (a lone surrogate)"),
        ({"structured_rep": [[], []]}, "structured_rep is no list of three boxes"),
        (
            {"structured_rep": [[{**BOX[0], "color": []}], [], []]},
            "an object of structured_rep lacks a known type",
        ),
        ({"structured_rep": [[{**BOX[0], "x_loc": 95}], [], []]}, "an object of structured_rep lies outside"),
    ],
)
def test_nlvr_rejects(nlvr_config: nlvr.NlvrConfig, change: dict[str, Any], why: str) -> None:
    assert reason(nlvr_config.adapt({**ROW, **change})).startswith(why)


def test_nlvr_flips_and_groups(nlvr_config: nlvr.NlvrConfig) -> None:
    rows = [
        {**ROW, "identifier": "12-3"},
        {**ROW, "identifier": "12-4", "label": "false"},
        {**ROW, "identifier": "13-0", "label": "false"},  # the same sentence under another number
        {**ROW, "identifier": "13-1", "label": "false"},  # more false ones than true ones
        {**ROW, "identifier": "12-5"},
        {**ROW, "identifier": "12-5"},  # a row that stands twice is in one pair
        {**ROW, "identifier": "14-0", "sentence": "Other"},
    ]
    nlvr_config.path.write_text("\n".join(json.dumps(row) for row in rows) + "\n{\n")
    config = nlvr_config.model_copy(update={"permutations": 2})
    items = list(config.generate(0))
    assert [item for item in items if isinstance(item, Rejected)] == [
        Rejected("not valid JSON", "dev.json:8", "row-unreadable", "{\n")
    ]
    records = [good(item) for item in items if not isinstance(item, Rejected)]
    assert len(records) == 14
    assert [(r.id, r.provenance["flip"]) for r in records if "flip" in r.provenance] == [
        ("nlvr-12-3-0", "nlvr-12-3-0+nlvr-12-4-0"),
        ("nlvr-12-3-1", "nlvr-12-3-1+nlvr-12-4-1"),
        ("nlvr-12-4-0", "nlvr-12-3-0+nlvr-12-4-0"),
        ("nlvr-12-4-1", "nlvr-12-3-1+nlvr-12-4-1"),
        ("nlvr-13-0-0", "nlvr-12-5-0+nlvr-13-0-0"),
        ("nlvr-13-0-1", "nlvr-12-5-1+nlvr-13-0-1"),
        ("nlvr-12-5-0", "nlvr-12-5-0+nlvr-13-0-0"),
        ("nlvr-12-5-1", "nlvr-12-5-1+nlvr-13-0-1"),
    ]
    assert [r.provenance["permutation"] for r in records] == [0, 1] * 7
    assert {r.provenance["group"] for r in records} == {"12", "14"}


def test_nlvr_of_a_gzipped_file(nlvr_config: nlvr.NlvrConfig) -> None:
    packed = nlvr_config.path.with_name("dev.json.gz")
    packed.write_bytes(gzip.compress(json.dumps(ROW).encode() + b"\n"))
    (record,) = nlvr_config.model_copy(update={"path": packed}).generate(0)
    assert good(record).images[0].path == good(nlvr_config.adapt(ROW)).images[0].path


def test_nlvr_real_data(real_data: Callable[[str], Path]) -> None:
    config = nlvr.NlvrConfig(name="nlvr", path=real_data("nlvr/dev/dev.json"))
    records = [good(item) for item in config.generate(0)]
    split_of, leaks = splits_of(records, {"nlvr": config.splits})
    assert (len(records), leaks) == (989, {})
    records = [dataclasses.replace(r, split=split) for r, split in zip(records, split_of, strict=True)]
    flips: dict[str, list[PreferenceRecord]] = defaultdict(list)
    splits: dict[str, set[str]] = defaultdict(set)
    for record in records:
        splits[record.prompt[0].text].add(record.split)
        splits[record.id.split("-")[1]].add(record.split)
        if "flip" in record.provenance:
            flips[record.provenance["flip"]].append(record)
    assert len(flips) == 409
    assert all(len(pair) == 2 for pair in flips.values())  # 818 of 989 records
    assert all(sorted(r.reference["answer"] for r in pair) == ["no", "yes"] for pair in flips.values())
    assert all(pair[0].prompt == pair[1].prompt for pair in flips.values())
    assert all(pair[0].responses == pair[1].responses for pair in flips.values())
    assert all(len(found) == 1 for found in splits.values())
    judges = {vote.judge for record in records for vote in record.votes}
    assert judges == {f"r{number}" for number in range(10)}
    # 989 rows of five raters; 63 times one said "nonsense"
    assert sum(len(record.votes) for record in records) == 989 * 5 - 63
    assert sum(len(record.provenance.get("nonsense", ())) for record in records) == 63
    assert 0.05 < sum(record.split == "test" for record in records) / 989 < 0.2


def test_nlvr_scene_lies_where_the_picture_shows_it(real_data: Callable[[str], Path]) -> None:
    path = real_data("nlvr/dev/dev.json")
    rows = [json.loads(line) for line in path.read_text().splitlines()[:12]]
    shades = {"yellow": (255, 255, 0), "black": (0, 0, 0), "blue": (0, 153, 255)}
    for row in rows:
        for k in range(6):
            scene = scene_from_nlvr(row["structured_rep"], k)
            name = f"images/{row['directory']}/dev-{row['identifier']}-{k}.png"
            image = decode_image((path.parent / name).read_bytes())
            assert image.size == (400, 100)
            for item in scene.objects:
                found = pixel(image, int(item.x * 400), int(item.y * 100))
                assert all(abs(a - b) < 60 for a, b in zip(found, shades[item.color], strict=True))
