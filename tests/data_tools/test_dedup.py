from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from decisions import deduplicated
from sample_records import image_record, text_record
from typer.testing import CliRunner

from data_tools.build import DataConfig, build
from data_tools.cli import app
from data_tools.config import parse_config
from data_tools.dedup import contradicted
from data_tools.schema import Comparison, PreferenceRecord, Ranking, Rating, Response
from data_tools.shards import open_records
from data_tools.stats import stats


def judged(name: str, answers: str, *comparisons: Comparison, **changes: object) -> PreferenceRecord:
    """A text record with one-letter answers; all have the same prompt."""
    responses = tuple(Response(letter) for letter in answers)
    return text_record(0, id=name, responses=responses, comparisons=comparisons, **changes)


def test_judgements_of_copies_are_merged_into_the_first() -> None:
    helpful, safe = Comparison("helpfulness", 0, 1), Comparison("safety", 0, 1)
    rating = Rating("honesty", 2, value=3, low=1, high=5)
    (record,), duplicates, merged = deduplicated(
        [
            judged("one", "abc", helpful),
            judged("two", "cab", safe, Comparison("helpfulness", 1, 2), source="more", ratings=(rating,)),
            judged("three", "abc", helpful),
            judged("four", "bca", Comparison("helpfulness", 2, 0)),
        ]
    )
    assert (record.id, record.source) == ("one", "words")
    assert record.responses == (Response("a"), Response("b"), Response("c"))
    # in `two` the answers are c, a, b: safety 0 > 1 is c > a, helpfulness 1 > 2 is a > b, which is known
    assert record.comparisons == (helpful, Comparison("safety", 2, 0))
    assert record.ratings == (Rating("honesty", 1, value=3, low=1, high=5),)
    assert (merged, duplicates) == ({"more": 1}, {"words": 2})


def test_rankings_of_copies_are_merged_by_text() -> None:
    ranked = {"rankings": (Ranking("h", ((0,), (1, 2))),)}
    turned = {"rankings": (Ranking("h", ((2,), (0, 1))), Ranking("h", ((0,), (1,))))}
    # in the copy the answers are c, b, a: a before b and c is known, c before b isn't
    (record,), _, _ = deduplicated([judged("one", "abc", **ranked), judged("two", "cba", **turned)])
    assert record.rankings == (Ranking("h", ((0,), (1, 2))), Ranking("h", ((2,), (1,))))


def test_contradictions_are_both_kept_and_ties_once() -> None:
    contradiction = [
        judged("one", "ab", Comparison("safety", 0, 1)),
        judged("two", "ba", Comparison("safety", 0, 1)),
    ]
    (record,), duplicates, merged = deduplicated(contradiction)
    assert record.comparisons == (Comparison("safety", 0, 1), Comparison("safety", 1, 0))
    assert (merged, duplicates) == ({"words": 1}, {})
    tie = Comparison("safety", 0, 1, tie=True)
    (record,), duplicates, _ = deduplicated([judged("one", "ab", tie), judged("two", "ba", tie)])
    assert record.comparisons == (tie,)
    assert duplicates == {"words": 1}
    judges = [judged(name, "ab", Comparison("safety", 0, 1, judge=name)) for name in ("ann", "bob")]
    assert [c.judge for c in deduplicated(judges)[0][0].comparisons] == ["ann", "bob"]


def test_other_kinds_and_splits_are_no_copies() -> None:
    bad = Rating("helpfulness", 0, value=0, low=0, high=1)
    records = [
        judged("demonstration", "a"),
        judged("marked bad", "a", ratings=(bad,)),
        judged("in test", "a", split="test"),
        judged("prompt", ""),
    ]
    assert deduplicated(records)[0] == records


def half(name: str, number: int, better: int, flip: str | None = "f", source: str = "s") -> PreferenceRecord:
    """A record of an image-flip pair: the number is of its pictures, the answers are the same."""
    return image_record(
        number,
        id=name,
        source=source,
        comparisons=(Comparison("factuality", better, 1 - better),),
        provenance={} if flip is None else {"flip": flip},
    )


def test_a_copy_of_a_whole_flip_pair_goes_whole() -> None:
    pair = [half("a1", 1, 0), half("a2", 2, 1)]
    again = [half("b2", 2, 1, "g", "t"), half("b1", 1, 0, "g", "t")]
    assert deduplicated([pair[0], *again, pair[1]]) == (pair, {"t": 2}, {})


def test_half_a_flip_pair_is_never_dropped() -> None:
    records = [
        half("single", 1, 1, flip=None),  # contradicts a1, and comes first
        half("a1", 1, 0),
        half("a2", 2, 1),
        half("b1", 1, 0, "g"),  # shares one picture with the pair f
        half("b3", 3, 1, "g"),
    ]
    assert deduplicated(records) == (records, {}, {})
    same = half("same", 1, 0, flip=None)  # says what a1 says
    assert deduplicated([same, *records]) == (records, {"s": 1}, {})


def test_single_copies_beside_a_flip_pair_are_merged_with_each_other() -> None:
    pair = [half("a1", 1, 0), half("a2", 2, 1)]
    safe = [
        image_record(1, id=name, source="s", provenance={}, comparisons=(c,))
        for name, c in (("x", Comparison("safety", 0, 1)), ("y", Comparison("helpfulness", 0, 1)))
    ]
    found, _, _ = deduplicated([*pair, *safe])
    assert [record.id for record in found] == ["a1", "a2", "x"]
    assert [c.objective for c in found[2].comparisons] == ["safety", "helpfulness"]
    assert found[:2] == pair


@pytest.fixture
def two_objectives(tmp_path: Path) -> DataConfig:
    """The same answers judged on helpfulness in one file and, swapped in every other row, on safety in another."""
    helpful = [{"prompt": f"q{n}", "chosen": "yes", "rejected": "no"} for n in range(4)]
    safe = [{**row, "chosen": "no", "rejected": "yes"} if n % 2 else row for n, row in enumerate(helpful)]
    sources = []
    for objective, rows in (("helpfulness", helpful), ("safety", safe)):
        path = tmp_path / f"{objective}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        sources.append({"type": "trl", "name": objective, "objective": objective, "path": str(path)})
        sources[-1]["splits"] = {"train": 1.0}  # type: ignore[assignment]
    return parse_config({"sources": sources}, DataConfig, "test")


def test_a_build_keeps_both_objectives(two_objectives: DataConfig, tmp_path: Path) -> None:
    report = build(two_objectives, tmp_path / "d")
    assert (report.records, report.merged, report.duplicates) == (4, {"safety": 4}, {})
    for number, record in enumerate(open_records(tmp_path / "d", "train")):
        assert record.id == f"helpfulness-helpfulness.jsonl:{number + 1}"
        better = {c.objective: record.responses[c.better].text for c in record.comparisons}
        assert better == {"helpfulness": "yes", "safety": "no" if number % 2 else "yes"}
    assert stats(tmp_path / "d")["merged"] == {"safety": 4}
    told = CliRunner().invoke(app, ["stats", str(tmp_path / "d")])
    assert "Copies merged, with their judgements, from safety: 4" in told.output


def test_a_build_tells_of_merged_copies_that_contradict_each_other(tmp_path: Path) -> None:
    def pair(number: int, chosen: str, rejected: str) -> str:
        return json.dumps({"prompt": f"q{number}", "chosen": chosen, "rejected": rejected})

    one = [pair(number, "a", "b") for number in range(5)]
    other = [pair(0, "b", "a"), pair(1, "b", "a"), pair(2, "a", "b"), pair(5, "b", "a")]
    for name, lines in (("one", one), ("other", other)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources = [
        {"type": "trl", "name": name, "path": str(tmp_path / f"{name}.jsonl"), "splits": {"train": 1.0}}
        for name in ("one", "other")
    ]
    report = build(parse_config({"sources": sources}, DataConfig, "test"), tmp_path / "d")
    assert (report.merged, report.duplicates) == ({"other": 2}, {"other": 1})
    assert report.notes == [
        "2 merged copies from other say the opposite of the record with the same prompt and answers "
        "(helpfulness: 2); both judgements are kept, as judges do disagree"
    ]


def test_what_contradicts() -> None:
    def row(
        better: int, rating: float | None = None, tie: bool = False, objective: str = "o"
    ) -> dict[str, Any]:
        binary = {
            "objective": objective,
            "response": 0,
            "value": rating,
            "low": 0.0,
            "high": 1.0,
            "kind": "binary",
        }
        return {
            "responses": [{"text": "a"}, {"text": "b"}],
            "comparisons": [{"objective": objective, "better": better, "worse": 1 - better, "tie": tie}],
            "ratings": [] if rating is None else [binary],
        }

    assert contradicted([row(0)], row(1)) == {"o"}
    assert contradicted([row(0)], row(0)) == set()
    assert contradicted([row(0)], row(1, tie=True)) == set()
    assert contradicted([row(0)], row(1, objective="p")) == set()
    assert contradicted([row(0, 1.0)], row(0, 0.0)) == {"o"}
    assert contradicted([row(0, 1.0)], row(0, 1.0)) == set()
    swapped = {**row(0), "responses": [{"text": "b"}, {"text": "a"}]}
    assert contradicted([row(0)], swapped) == {"o"}
