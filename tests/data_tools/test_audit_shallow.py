from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.audits.base import Options, Scope
from data_tools.intervals import gap_auc, wilson
from data_tools.schema import Comparison, Correction, Critique, Ranking, Rating, Response
from tests.data_tools.audit_records import audited, found, numbers, pair


def test_length_alone(tmp_path: Path) -> None:
    """Of 20 pairs the longer answer is better in 15, the shorter in 3, and 2 are as long; words say the opposite."""
    better = ["abcdef"] * 15 + ["a"] * 3 + ["abc"] * 2
    worse = ["a b"] * 15 + ["a b c"] * 3 + ["b c"] * 2
    records = [
        pair(n, *answers, first=n % 2 == 0) for n, answers in enumerate(zip(better, worse, strict=True))
    ]
    report = audited(tmp_path / "d", records, "length")
    assert found(report, "longer_is_better").mean == pytest.approx(16 / 20)
    assert found(report, "length_accuracy").mean == pytest.approx(16 / 20)
    assert found(report, "more_words_is_better").mean == 0
    longer = found(report, "longer_is_better")
    assert longer.low < 0.75 < 0.8 < longer.high
    # gaps 3 (15 times), -4 (3) and 0 (2): of 400 sums of two, 15*15 + 2*15*2 = 285 are above 0, and 2*2 = 4 are 0
    assert found(report, "length_auc").mean == pytest.approx((285 + 4 / 2) / 400)


def test_the_area_of_gaps_by_hand() -> None:
    assert gap_auc([1.0, 2.0, 3.0], [0, 1, 2]).mean == 1.0
    assert gap_auc([1.0, -1.0], [0, 1]).mean == 0.5
    # sums of two of 2, -1, -1: 4; 1 (four times); -2 (four times)
    assert gap_auc([2.0, -1.0, -1.0], [0, 1, 2]).mean == pytest.approx(5 / 9)
    alike = gap_auc([2.0, -1.0, -1.0], [7, 7, 7])
    assert (alike.low, alike.high) == pytest.approx(wilson(5 / 9, 1))  # one group is one item
    with pytest.raises(ValueError, match="at least one number"):
        gap_auc([], [])


def test_position_alone(tmp_path: Path) -> None:
    records = [
        *(pair(n, f"a{n}", f"b{n}", first=True, picture=False) for n in range(30)),
        *(pair(n, f"a{n}", f"b{n}", first=n % 4 == 0) for n in range(100, 140)),
    ]
    report = audited(tmp_path / "d", records, "position")
    words, pictures = Scope("train", "text"), Scope("train", "image-text")
    assert found(report, "first_is_better", words).mean == 1
    assert found(report, "first_is_better", words).low == pytest.approx(30 / (30 + 1.959964**2))
    assert found(report, "first_is_better", pictures).mean == 0.25
    # the rule is made of each source's own pairs: "first" here, "second" there
    assert found(report, "position_accuracy", words).mean == 1
    assert found(report, "position_accuracy", pictures).mean == 0.75
    assert found(report, "position_accuracy").mean == pytest.approx(60 / 70)


def test_who_wrote_it_alone(tmp_path: Path) -> None:
    def record(n: int, better: str | None, worse: str | None) -> object:
        return pair(n, "", "", responses=(Response(f"x{n}", model=better), Response(f"y{n}", model=worse)))

    records = [
        *(record(n, "large", "small") for n in range(40)),
        *(record(n, "small", "large") for n in range(40, 50)),
        *(record(n, "large", "large") for n in range(50, 60)),  # says nothing
        *(record(n, "large", None) for n in range(60, 70)),  # unknown
        *(record(n, "large", "rare") for n in range(70, 75)),  # too few to go by
    ]
    report = audited(tmp_path / "d", records, "model")  # type: ignore[arg-type]
    accuracy = found(report, "model_accuracy")
    assert (accuracy.mean, accuracy.n) == (0.8, 50)
    wins = report.results[0].tables[1].rows
    assert [(row[3], row[4], row[5].mean) for row in wins] == [("large", 50, 0.8), ("small", 50, 0.2)]  # type: ignore[union-attr]


def test_a_few_answers_that_come_again_and_again(tmp_path: Path) -> None:
    records = [pair(n, *(("Yes.", "No.") if n % 10 < 7 else ("No.", "Yes."))) for n in range(60)]
    report = audited(tmp_path / "d", records, "answer")
    assert found(report, "answer_accuracy").mean == pytest.approx(0.7)
    nothing = audited(tmp_path / "e", [pair(n, f"a{n}", f"b{n}") for n in range(20)], "answer")
    assert nothing.findings == []
    assert nothing.results[0].says.startswith("There is nothing to go by")


def test_comparisons_and_ratings_are_told_apart_where_both_are_there(tmp_path: Path) -> None:
    compared = [pair(n, f"long{n}", "s") for n in range(20)]
    rated = [
        pair(
            n,
            f"long{n}",
            "s",
            comparisons=(),
            ratings=(Rating("factuality", 1, 5, 1, 5), Rating("factuality", 0, 1, 1, 5)),
        )
        for n in range(20, 30)
    ]
    report = audited(tmp_path / "d", [*compared, *rated], "length")
    assert found(report, "longer_is_better", Scope("train", label="comparison")).mean == 1
    assert found(report, "longer_is_better", Scope("train", label="rating")).mean == 0
    assert found(report, "longer_is_better").mean == pytest.approx(20 / 30)


def test_a_sample_is_said(tmp_path: Path) -> None:
    records = [pair(n, f"a{n}", f"b{n}") for n in range(150)]
    report = audited(tmp_path / "d", records, "position", options=Options(max_pairs=100))
    assert report.results[0].notes == ("pictures, image-text, train: a sample of 100 of 150 pairs",)
    assert found(report, "first_is_better").n == 100


def test_what_was_judged_is_counted(tmp_path: Path) -> None:
    three = tuple(Response(text) for text in "abc")
    records = [
        pair(0, "a", "b", provenance={"flip": "x"}),
        pair(1, "a", "b", provenance={"flip": "x"}),
        pair(
            2,
            "a",
            "b",
            provenance={"flip": "lonely"},
            comparisons=(Comparison("factuality", 0, 1, tie=True),),
        ),
        pair(
            3,
            "",
            "",
            picture=False,
            responses=three,
            comparisons=(),
            rankings=(Ranking("rank", ((0,), (1, 2))),),
            ratings=(
                Rating("help", 0, 4, 0, 4),
                Rating("help", 1, 1, 0, 4),
                Rating("safe", 0, 1, 0, 1, kind="binary"),
                Rating("safe", 1, 0, 0, 1, kind="binary"),
                Rating("safe", 2, 0, 0, 1, kind="binary"),
            ),
            corrections=(Correction("help", 0, 1),),
            critiques=(Critique("fine"),),
        ),
    ]
    report = audited(tmp_path / "d", records, "labels")
    found = numbers(report.findings)
    assert found["train.tie_share"] == round(1 / 3, 6)
    assert found["train.text.safe.yes_share"] == round(1 / 3, 6)
    assert found["train.text.help.rating_mean"] == 0.625
    assert found["train.image_share"] == 0.75
    assert found["train.flip_share"] == round(2 / 3, 6)
    (table,) = report.results[0].tables
    rows = {(row[2], row[3]): dict(zip(table.columns[4:], row[4:], strict=True)) for row in table.rows}
    assert rows["factuality", "pictures"]["comparisons"] == 3
    assert rows["factuality", "pictures"]["ties"] == 1
    assert rows["help", "words"] == dict.fromkeys(table.columns[4:], 0) | {"ratings": 2, "corrections": 1}
    assert rows["safe", "words"] == dict.fromkeys(table.columns[4:], 0) | {"yes or no": 3, "yes": 1}
    assert rows["rank", "words"]["rankings"] == 1
    assert rows["all", "words"]["critiques"] == 1
