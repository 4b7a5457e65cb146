"""Krippendorff's alpha, against published values, the reference implementation, and by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import krippendorff
import numpy as np
import pytest

from data_tools.audits.agreement import Values, alpha, percent_agreement
from data_tools.audits.base import Scope
from data_tools.schema import Comparison, PreferenceRecord, Rating, Response
from tests.data_tools.audit_records import audited, found, numbers, pair

# the data of Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), part C: four observers, twelve units
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def patterns(units: list[list[int]]) -> Counter[Values]:
    return Counter(tuple(sorted(Counter(unit).items())) for unit in units if len(unit) > 1)


def published() -> Counter[Values]:
    return patterns([[value for value in unit if value is not None] for unit in zip(*PUBLISHED, strict=True)])


def test_the_published_values() -> None:
    nominal, interval = alpha(published(), "nominal"), alpha(published(), "interval")
    assert round(nominal.mean, 3) == 0.743
    assert round(interval.mean, 3) == 0.849
    assert nominal.n == 11  # the twelfth unit was judged by one observer only
    assert nominal.low < nominal.mean < nominal.high
    assert alpha(published(), "nominal") == nominal


def test_two_judges_by_hand() -> None:
    """Units aa, aa, ab, bb: observed disagreement 2/8; expected 2 * 5 * 3 / (8 * 7); alpha = 1 - (1/4) / (30/56)."""
    units = patterns([[0, 0], [0, 0], [0, 1], [1, 1]])
    assert alpha(units, "nominal").mean == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert percent_agreement(units) == 0.75
    # three of four judges agree: 6 of 12 ordered pairs
    assert percent_agreement(patterns([[1, 1, 1, 0]])) == 0.5


@pytest.mark.parametrize("level", ["nominal", "interval"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_the_reference_implementation(level: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ratings = rng.integers(0, 4, size=(5, 30)).astype(float)
    ratings[0] = ratings[1]
    ratings[rng.random(ratings.shape) < 0.3] = np.nan
    units = patterns([[int(value) for value in unit if np.isfinite(value)] for unit in ratings.T])
    expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement=level)  # type: ignore[arg-type]
    assert alpha(units, level).mean == pytest.approx(expected, abs=1e-9)  # type: ignore[arg-type]


def test_where_all_say_the_same_there_is_no_alpha() -> None:
    assert np.isnan(alpha(patterns([[1, 1], [1, 1, 1]]), "nominal").mean)
    with pytest.raises(ValueError, match="at least one unit"):
        alpha({}, "nominal")


def voted(n: int, votes: str, first: bool = True) -> PreferenceRecord:
    """A statement with "Yes." and "No.", in either order, and each rater's vote: t or f."""
    texts = ("Yes.", "No.") if first else ("No.", "Yes.")
    yes = texts.index("Yes.")
    return pair(
        n,
        "",
        "",
        responses=tuple(Response(text) for text in texts),
        votes=tuple(
            Comparison(
                "factuality", yes if vote == "t" else 1 - yes, 1 - yes if vote == "t" else yes, judge=f"r{at}"
            )
            for at, vote in enumerate(votes)
        ),
    )


def test_votes_are_units_whatever_the_order_of_the_answers(tmp_path: Path) -> None:
    records = [voted(0, "tt"), voted(1, "tt", False), voted(2, "tf"), voted(3, "ff", False), voted(4, "t")]
    report = audited(tmp_path / "d", records, "agreement")
    found_alpha = found(report, "vote_alpha", Scope("train", "", "factuality"))
    assert found_alpha.mean == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert found_alpha.n == 4  # one judge alone is no unit
    assert numbers(report.findings)["train.factuality.vote_agreement"] == 0.75
    (table,) = report.results[0].tables
    assert table.rows[0][4:8] == ("votes", 4, 2, "0.533")


def test_ratings_by_several_judges(tmp_path: Path) -> None:
    """The published data as ratings from 1 to 5 of one answer each; judges who rate alone don't count."""
    records = [
        pair(
            n,
            "",
            "",
            responses=(Response("a"), Response("b")),
            comparisons=(),
            ratings=tuple(
                Rating("help", 0, value, 1, 5, judge=f"r{at}")
                for at, value in enumerate(unit)
                if value is not None
            ),
        )
        for n, unit in enumerate(zip(*PUBLISHED, strict=True))
    ]
    report = audited(tmp_path / "d", records, "agreement")
    assert round(found(report, "rating_alpha", Scope("train", "", "help")).mean, 3) == 0.849


def test_no_several_judges(tmp_path: Path) -> None:
    report = audited(tmp_path / "d", [pair(n, "a", "b") for n in range(3)], "agreement")
    assert report.findings == []
    assert "isn't known" in report.results[0].says


def test_judges_of_merged_copies_are_judges(tmp_path: Path) -> None:
    """Two judges agree on ten pairs and differ on two: their comparisons are choices. Where there are votes, a
    comparison sums these up, and one judge's comparisons say nothing of agreement.
    """
    records = [
        pair(
            n,
            "yes",
            "no",
            comparisons=(
                Comparison("factuality", 0, 1, judge="a"),
                Comparison("factuality", int(n < 2), int(n >= 2), judge="b"),
            ),
        )
        for n in range(12)
    ]
    summed = [
        pair(
            n,
            "yes",
            "no",
            source="votes",
            comparisons=tuple(Comparison("factuality", 0, 1, judge=judge) for judge in ("sum", "more")),
            votes=tuple(Comparison("factuality", side, 1 - side, judge=f"v{side}") for side in (0, 1)),
        )
        for n in range(20, 25)
    ]
    report = audited(tmp_path / "d", [*records, *summed, pair(30, "yes", "no")], "agreement")
    got = numbers(report.findings)
    assert got["train.image-text.factuality.pictures.vote_agreement"] == pytest.approx(10 / 12, abs=1e-6)
    assert got["train.image-text.factuality.votes.vote_agreement"] == 0
    assert found(report, "vote_alpha", Scope("train", "image-text", "factuality", "pictures")).n == 12
