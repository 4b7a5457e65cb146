from __future__ import annotations

import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sample_records import png
from test_audit_copies import LONG, drawing, encoded

from data_tools.audits.pairs import pairs_of
from data_tools.build import BuildReport, DataConfig, build
from data_tools.errors import UserError
from data_tools.parts.index import IndexBuilder
from data_tools.parts.view import View
from data_tools.remedies.blind import _above_chance
from data_tools.schema import Comparison, PreferenceRecord, Rating, to_json
from data_tools.shards import open_records, write_shards
from data_tools.stats import left_out, stats
from tests.data_tools.audit_records import pair

WORDS = [
    "ash",
    "birch",
    "cedar",
    "elm",
    "fir",
    "hazel",
    "larch",
    "maple",
    "oak",
    "pine",
    "rowan",
    "willow",
    "yew",
]


def built(
    folder: Path, rows: list[dict[str, Any]], remedies: list[dict[str, Any]], **changes: object
) -> tuple[BuildReport, dict[str, PreferenceRecord]]:
    """What a build keeps of TRL rows, by their first answer's text; `splits` fixes the splits of two sources."""
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"type": "trl", "name": "t", "path": str(folder / "rows.jsonl"), "splits": {"train": 1.0}}
    config = DataConfig.model_validate({"sources": [source], "remedies": remedies, **changes})
    report = build(config, folder / "out")
    kept = [
        record
        for split in ("train", "test")
        if any(name.startswith(split) for name in report.counts)
        for record in open_records(folder / "out", split)
    ]
    assert report.records == len(kept)
    return report, {record.id: record for record in kept}


def words(rng: random.Random, number: int) -> str:
    return " ".join(rng.choices(WORDS, k=number))


def row(number: int, chosen: str, rejected: str) -> dict[str, Any]:
    return {"prompt": f"question number {number}", "chosen": chosen, "rejected": rejected}


def test_lengths_are_matched_bin_by_bin(tmp_path: Path) -> None:
    rows = [row(i, f"{'x' * 40} {i}", f"{'y' * 30} {i}") for i in range(100, 130)]  # longer by 10
    rows += [row(i, f"{'x' * 30} {i}", f"{'y' * 40} {i}") for i in range(200, 212)]  # shorter by 10
    rows += [
        row(i, f"{'x' * 300} {i}", f"{'y' * 30} {i}") for i in range(300, 305)
    ]  # longer by 270: no match
    rows += [row(i, f"same {i}", f"Same {i}") for i in range(400, 403)]
    report, kept = built(tmp_path, rows, [{"type": "match_lengths"}])
    signs = Counter(
        (len(r.responses[c.better].text) > len(r.responses[c.worse].text))
        - (len(r.responses[c.better].text) < len(r.responses[c.worse].text))
        for r in kept.values()
        for c in r.comparisons
    )
    assert signs == {1: 12, -1: 12, 0: 3}
    assert report.filtered == {"t: length alone tells the better answer": 23}


def test_what_one_word_gives_away_is_thinned_to_chance(tmp_path: Path) -> None:
    """Of 400 pairs the better answer says "indeed" in 300 and the worse one in 100: 100 of each may stay."""
    rng = random.Random(0)
    rows = []
    for i in range(400):
        good, bad = words(rng, 6), words(rng, 6)
        rows.append(row(i, f"{good} indeed" if i % 4 else good, bad if i % 4 else f"{bad} indeed"))
    report, kept = built(tmp_path, rows, [{"type": "blind_probe", "modality": None}])
    said = Counter("indeed" in r.responses[c.better].text for r in kept.values() for c in r.comparisons)
    assert said[False] >= 85  # what the word tells wrong stays, but for what other words seem to tell
    assert 0.42 < said[True] / (said[True] + said[False]) < 0.58
    assert report.records + sum(report.filtered.values()) == 400


def test_what_the_probe_is_sure_of_can_go_altogether(tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [row(i, f"{words(rng, 5)} indeed", words(rng, 5)) for i in range(120)]
    rows += [row(i, words(rng, 5), words(rng, 5)) for i in range(120, 240)]
    remedy = {"type": "blind_probe", "modality": None, "drop_above": 0.7}
    report, kept = built(tmp_path, rows, [remedy])
    told = sum("indeed" in answer.text for record in kept.values() for answer in record.responses)
    assert told <= 5
    assert len(kept) - told >= 90
    assert report.filtered == {"t: the blind probe solves it": 240 - len(kept)}


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    rows = [row(i, "a", "b") for i in range(3)]
    with pytest.raises(ValueError, match=r"remedies\.0\.sources: there is no source 'u'; there are: t"):
        built(tmp_path, rows, [{"type": "match_lengths", "sources": ["u"]}])
    with pytest.raises(
        UserError, match=r"remedies\.match_lengths\.splits: there is no 'dev'; there are: train"
    ):
        built(tmp_path, rows, [{"type": "match_lengths", "splits": ["dev"]}])


def test_what_an_earlier_remedy_emptied_is_nothing_to_do(tmp_path: Path) -> None:
    sources = {"a": [row(i, "a", "bb") for i in range(4)], "b": [row(i, "a", "bb") for i in range(4, 9)]}
    remedies: list[dict[str, Any]] = [
        {"type": "only_flip_pairs", "modality": None, "sources": ["a"]},
        *({"type": kind, "modality": None, "sources": ["a"]} for kind in ("match_lengths", "blind_probe")),
    ]
    report = built_of(tmp_path, sources, remedies)
    assert report.filtered == {"a: in no flip pair": 4}
    assert report.notes == []


def built_of(
    folder: Path, sources: dict[str, list[dict[str, Any]]], remedies: list[dict[str, Any]], **splits: str
) -> BuildReport:
    """A build of several sources of TRL rows, all in train or in the split that is named."""
    for name, rows in sources.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = [
        {
            "type": "trl",
            "name": name,
            "path": str(folder / f"{name}.jsonl"),
            "splits": {splits.get(name, "train"): 1.0},
        }
        for name in sources
    ]
    return build(DataConfig.model_validate({"sources": said, "remedies": remedies}), folder / "out")


def test_a_small_source_that_is_solved_does_not_hide_in_a_large_one(tmp_path: Path) -> None:
    rng = random.Random(4)
    large = [row(i, words(rng, 5), words(rng, 5)) for i in range(400)]
    small = [row(i, f"{words(rng, 5)} indeed", words(rng, 5)) for i in range(400, 430)]
    report = built_of(tmp_path, {"large": large, "small": small}, [{"type": "blind_probe", "modality": None}])
    assert report.filtered == {"small: the blind probe solves it": 30}


def test_many_small_tasks_a_little_above_chance_are_seen_together() -> None:
    """Ten sources of 40 pairs, 24 told right of each: none is 1.96 deviations above one half (1.26), all are (4)."""
    records = [pair(n, "a", "b", source=f"s{n // 40}") for n in range(400)]
    pairs = [p for n, record in enumerate(records) for p in pairs_of(to_json(record), "train", n)]
    by = np.where(np.arange(400) % 40 < 24, 0.1, -0.1)
    found = _above_chance(pairs, np.arange(400), by)
    assert found == {(("image-text", "factuality", f"s{n}"), "train"): pytest.approx(0.6) for n in range(10)}
    assert _above_chance(pairs[:80], np.arange(80), by[:80]) == {}
    # 9 pairs that are all told right aren't judged; 10 are; in one group they are no evidence
    right = np.full(10, 0.4)
    assert _above_chance(pairs[:9], np.arange(9), right[:9]) == {}
    assert list(_above_chance(pairs[:10], np.arange(10), right)) == [
        (("image-text", "factuality", "s0"), "train")
    ]
    assert _above_chance(pairs[:10], np.arange(10) // 5, right) == {}


def test_sources_too_small_to_be_judged_are_told_of(tmp_path: Path) -> None:
    rows = [row(i, f"indeed {i}", f"no {i}") for i in range(8)]
    report, kept = built(tmp_path, rows, [{"type": "blind_probe", "modality": None}])
    assert len(kept) == 8
    note = (
        "blind_probe: t, text, helpfulness: not judged, as 8 pairs in 8 groups are too few to learn from (it takes 10 "
        "groups); all stay"
    )
    assert report.notes == [note]
    assert f"Note: {note}" in left_out(stats(tmp_path / "out"))


def test_what_is_still_told_after_the_last_round_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if thinning had done nothing."""
    monkeypatch.setattr("data_tools.remedies.blind._stay", lambda right: np.ones(len(right)))
    rows = [row(i, f"indeed {i}", f"no {i}") for i in range(40)]
    report, _ = built(tmp_path, rows, [{"type": "blind_probe", "modality": None, "rounds": 1}])
    assert report.notes == ["blind_probe: t, text, helpfulness, train: after 1 rounds 100.0% are still told"]


def test_one_question_to_many_pictures_is_thinned(tmp_path: Path) -> None:
    """100 pictures, "Is there a cat?", 80 times "Yes.": 20 of each answer may stay."""
    rows = [
        shown(
            tmp_path, n, png((n, 3, 7)), "Is there a cat?", *(("Yes.", "No.") if n % 5 else ("No.", "Yes."))
        )
        for n in range(100)
    ]
    report, kept = built(tmp_path, rows, [{"type": "blind_probe"}])
    said = Counter(r.responses[c.better].text for r in kept.values() for c in r.comparisons)
    assert said["No."] == 20
    assert 10 <= said["Yes."] <= 31
    assert report.notes == []


def test_lengths_are_matched_by_objective(tmp_path: Path) -> None:
    """Longer is more helpful, shorter is safer: together they are even, each by itself says all."""
    records = [
        pair(
            n,
            "x" * (40 if n < 30 else 30),
            "x" * (30 if n < 30 else 40),
            comparisons=(Comparison("helpfulness" if n < 30 else "safety", 0, 1),),
            provenance={"split": "train"},
        )
        for n in range(60)
    ]
    report = rebuilt(tmp_path, [records], ["match_lengths"])
    assert report.filtered == {"s0: length alone tells the better answer": 60}


def rebuilt(folder: Path, sources: list[list[PreferenceRecord]], remedies: list[Any]) -> BuildReport:
    """A build of sources s0, s1 ..., each of some records."""
    said = []
    for number, records in enumerate(sources):
        write_shards(records, folder / f"in{number}")
        said.append({"type": "shards", "name": f"s{number}", "path": str(folder / f"in{number}")})
    config = DataConfig.model_validate({"sources": said, "remedies": remedies})
    return build(config, folder / "out")


def test_remedies_see_what_copies_say(tmp_path: Path) -> None:
    """The kept records have ratings alone; their copies, of another source, say that the longer answer is better."""
    rated, compared = (
        [
            pair(
                n,
                "a long answer",
                "short",
                picture=False,
                first=True,
                provenance={"split": "train"},
                **said,  # type: ignore[arg-type]
            )
            for n in range(40)
        ]
        for said in (
            {"comparisons": (), "ratings": (Rating("factuality", 0, 3, 0, 4, judge="x"),)},
            {"comparisons": (Comparison("factuality", 0, 1, judge="y"),)},
        )
    )
    report = rebuilt(tmp_path, [rated, compared], ["match_lengths"])
    assert report.merged == {"s1": 40}
    assert report.filtered == {"s0: length alone tells the better answer": 40}
    (tmp_path / "blind").mkdir()
    report = rebuilt(tmp_path / "blind", [rated, compared], [{"type": "blind_probe", "modality": None}])
    assert report.filtered == {"s0: the blind probe solves it": 40}


def test_halves_in_two_splits_are_no_flip_pair(tmp_path: Path) -> None:
    records = [
        pair(n, "a", "b", first=n % 2 == 0, provenance={"flip": flip, "split": split})
        for n, (flip, split) in enumerate(
            [("f", "train"), ("f", "train"), ("g", "train"), ("g", "test"), ("h", "test")]
        )
    ]
    report = rebuilt(tmp_path, [records], ["only_flip_pairs"])
    assert report.filtered == {"s0: in no flip pair": 3}
    assert report.counts == {"train/preference/image-text": 2}


def test_each_remedy_has_luck_of_its_own() -> None:
    builder = IndexBuilder()
    for n in range(50):
        builder.add(pair(n, "a", "b", picture=False))
    view = View(builder.index(), np.full(50, "train", object), ["s"], [])
    first = view.luck(0, "blind_probe 0")
    view.turn = 1
    assert np.unique(np.concatenate([first, view.luck(0, "blind_probe 0")])).size == 100


def test_leaks_are_counted_of_what_stays(tmp_path: Path) -> None:
    sources = {
        "train": [row(i, "yes", "no") for i in range(20)],
        "test": [row(i, "ja", "no") for i in range(5)],
    }
    assert built_of(tmp_path, sources, [], test="test").leaks == {"test+train": 10}
    (tmp_path / "again").mkdir()
    report = built_of(tmp_path / "again", sources, [{"type": "leaks"}], test="test")
    assert report.filtered == {"train: shares something with another split": 5}
    assert report.leaks == {}


def shown(
    folder: Path, number: int, picture: bytes, prompt: str, chosen: str, rejected: str
) -> dict[str, Any]:
    (folder / f"{number}.png").write_bytes(picture)
    return {"prompt": prompt, "images": [f"{number}.png"], "chosen": chosen, "rejected": rejected}


def test_near_copies_go_and_others_stay(tmp_path: Path) -> None:
    small = io.BytesIO()
    drawing(1).resize((120, 90)).save(small, "PNG")
    rows = [
        shown(tmp_path, 0, encoded(drawing(1)), LONG, "yes it is", "no it is not"),
        shown(tmp_path, 1, small.getvalue(), LONG, "yes it is", "no it is not"),
        shown(tmp_path, 2, encoded(drawing(2)), LONG, "yes it is", "no it is not"),
        {"prompt": LONG, "chosen": "first you need flour", "rejected": "no"},
        {"prompt": LONG + " please", "chosen": "first you need flour", "rejected": "no"},
    ]
    report, kept = built(tmp_path, rows, [{"type": "near_copies"}])
    assert sorted(kept) == ["t-rows.jsonl:1", "t-rows.jsonl:3", "t-rows.jsonl:4"]
    assert report.filtered == {"t: nearly a copy": 2}


def test_contaminated_records_go(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "rows.jsonl").write_text(json.dumps({"question": f"so: {LONG}?", "image": "a.png"}))
    (bench / "a.png").write_bytes(encoded(drawing(1), "JPEG", quality=60))
    rows = [
        shown(tmp_path, 0, encoded(drawing(1)), "What is this?", "a", "b"),
        shown(tmp_path, 1, encoded(drawing(2)), LONG, "a", "b"),  # its picture is another
        {"prompt": LONG, "chosen": "a", "rejected": "b"},
        {"prompt": "hello", "chosen": "a", "rejected": "b"},
    ]
    remedy = {"type": "contamination", "against": [str(bench / "rows.jsonl")]}
    report, kept = built(tmp_path, rows, [remedy])
    assert sorted(kept) == ["t-rows.jsonl:2", "t-rows.jsonl:4"]
    assert report.filtered == {"t: shares something with a benchmark": 2}


def test_training_records_that_leak_go(tmp_path: Path) -> None:
    shared = Image.open(io.BytesIO(encoded(drawing(1), "JPEG", quality=60)))
    test = [shown(tmp_path, 9, encoded(drawing(1)), "What?", "a", "b")]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, test)))
    rows = [
        shown(tmp_path, 0, encoded(shared), "Where?", "a", "b"),
        shown(tmp_path, 1, encoded(drawing(2)), "Where?", "a", "b"),
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = [
        {"type": "trl", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "splits": {name: 1.0}}
        for name in ("train", "test")
    ]
    config = DataConfig.model_validate({"sources": sources, "remedies": [{"type": "leaks"}]})
    report = build(config, tmp_path / "out")
    assert report.filtered == {"train: shares something with another split": 1}
    assert [record.id for record in open_records(tmp_path / "out", "train")] == ["train-train.jsonl:2"]
    assert len(open_records(tmp_path / "out", "test")) == 1


def test_only_flip_pairs_stay(tmp_path: Path, nlvr_rows: Path) -> None:
    source = {"type": "nlvr", "name": "n", "path": str(nlvr_rows), "splits": {"train": 1.0}}
    config = DataConfig.model_validate({"sources": [source], "remedies": [{"type": "only_flip_pairs"}]})
    report = build(config, tmp_path / "out")
    records = list(open_records(tmp_path / "out", "train"))
    assert Counter(record.provenance["flip"] for record in records).most_common(1)[0][1] == 2
    assert len(records) == 2
    assert report.filtered == {"n: in no flip pair": 1}


def flips_of(folder: Path, split: str = "train") -> dict[str, list[str]]:
    """The ids of the records of each flip pair, by its name; those of none under an empty one."""
    found: dict[str, list[str]] = {}
    for record in open_records(folder, split):
        number = record.id.rpartition(":")[2]
        found.setdefault(record.provenance.get("flip", ""), []).append(number)
    return found


def test_opposite_answers_to_other_pictures_become_pairs(tmp_path: Path) -> None:
    """Rows, from 1: the k-th "red" with the k-th "blue" for one question, and never two of one picture."""
    asked = [
        *(("What color?", "red", "blue", 1), ("What color?", "red", "blue", 2)),
        ("What color?", "blue", "red", 3),  # with row 1
        ("What color?", "blue", "red", 4),  # with row 2
        ("What color?", "blue", "red", 5),  # one more than there are of the other
        *(("What color is it?", "blue", "red", 6), ("What color?", "blue", "green", 7)),
        *(("Which?", "a", "b", 8), ("Which?", "b", "a", 8)),  # judges at odds over one picture
        *(("Which?", "a", "b", 9), ("Which?", "b", "a", 10)),
    ]
    rows = [
        shown(tmp_path, number, png((20 * picture, 0, 0)), prompt, chosen, rejected)
        for number, (prompt, chosen, rejected, picture) in enumerate(asked)
    ]
    rows.append({"prompt": "What color?", "chosen": "red", "rejected": "blue"})  # no picture
    remedies = [{"type": "pair_flips"}]
    # the two of one picture are no copies of each other here
    report, kept = built(tmp_path, rows, remedies, dedup=False)
    assert report.records == 12
    found = flips_of(tmp_path / "out")
    assert sorted(found.pop("")) == ["12", "5", "6", "7", "8", "9"]
    assert sorted(map(sorted, found.values())) == [["1", "3"], ["10", "11"], ["2", "4"]]
    assert all(len(name) == 32 for name in found)
    # both of a pair show their answers in one order
    for name in found:
        orders = {
            tuple(answer.text for answer in record.responses)
            for record in kept.values()
            if record.provenance.get("flip") == name
        }
        assert len(orders) == 1


def test_pairs_that_were_made_are_pairs_to_what_comes_after(tmp_path: Path) -> None:
    """Only whole pairs stay, and they stay together in balancing, in the shards and when these are read again."""
    rows = [
        shown(tmp_path, number, png((number * 9, 0, 0)), "Which?", *answers)
        for number, answers in enumerate([("a", "b")] * 10 + [("b", "a")] * 8)
    ]
    remedies = [{"type": "pair_flips"}, {"type": "only_flip_pairs"}]
    balance = {"total": 10}
    report, _ = built(tmp_path, rows, remedies, balance=balance)
    assert (report.records, report.filtered) == (10, {"t: in no flip pair": 2})
    found = flips_of(tmp_path / "out")
    assert sorted(len(members) for members in found.values()) == [2, 2, 2, 2, 2]
    source = {"type": "shards", "name": "again", "path": str(tmp_path / "out")}
    config = DataConfig.model_validate({"sources": [source], "remedies": [{"type": "only_flip_pairs"}]})
    assert build(config, tmp_path / "again").records == 10


def test_pairs_are_made_within_a_split_and_a_source(tmp_path: Path) -> None:
    sources = []
    for name, split, better, first in (
        ("a", "train", "x", 0),
        ("b", "test", "y", 10),
        ("c", "train", "y", 20),
    ):
        worse = "y" if better == "x" else "x"
        rows = [shown(tmp_path, first, png((first, 0, 0)), "Which?", better, worse)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        path = str(tmp_path / f"{name}.jsonl")
        sources.append({"type": "trl", "name": name, "path": path, "splits": {split: 1.0}})
    config = DataConfig.model_validate({"sources": sources, "remedies": ["pair_flips"]})
    build(config, tmp_path / "out")
    assert list(flips_of(tmp_path / "out")) == list(flips_of(tmp_path / "out", "test")) == [""]


def test_what_copies_say_against_a_record_keeps_it_out_of_pairs(tmp_path: Path) -> None:
    """The second row says the contrary of the first about the same picture; it is merged into it."""
    rows = [
        shown(tmp_path, 0, png((1, 0, 0)), "Which?", "a", "b"),
        shown(tmp_path, 1, png((1, 0, 0)), "Which?", "b", "a"),
        shown(tmp_path, 2, png((2, 0, 0)), "Which?", "b", "a"),
        shown(tmp_path, 3, png((3, 0, 0)), "Which?", "a", "b"),
    ]
    report, _ = built(tmp_path, rows, [{"type": "pair_flips"}])
    assert report.merged == {"t": 1}
    found = flips_of(tmp_path / "out")
    assert found.pop("") == ["1"]
    assert [sorted(members) for members in found.values()] == [["3", "4"]]


@pytest.fixture
def nlvr_rows(tmp_path: Path) -> Path:
    folder = tmp_path / "nlvr"
    (folder / "images" / "2").mkdir(parents=True)
    rows = []
    for number, (sentence, label) in enumerate([("a", "true"), ("a", "false"), ("b", "true")]):
        (folder / "images" / "2" / f"dev-{number}-0-0.png").write_bytes(png((number, 0, 0)))
        rows.append(
            {
                "sentence": sentence,
                "label": label,
                "identifier": f"{number}-0",
                "directory": "2",
                "structured_rep": [[], [], []],
            }
        )
    (folder / "dev.json").write_text("\n".join(map(json.dumps, rows)))
    return folder / "dev.json"


def test_mistakes_name_their_key() -> None:
    from data_tools.config import parse_config

    source = {"type": "trl", "name": "t", "path": "rows.jsonl"}
    row = {"sources": [source], "remedies": [{"type": "leaks", "by": ["leek"]}]}
    with pytest.raises(UserError, match=r"remedies\.0\.by: 'leek' is none of leak_image"):
        parse_config(row, DataConfig, "x.yaml")
    with pytest.raises(UserError, match=r"remedies\.0.*Did you mean 'near_copies'"):
        parse_config({"sources": [source], "remedies": ["near_copy"]}, DataConfig, "x.yaml")
