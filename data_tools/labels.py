"""What was judged about a record's responses: comparisons, rankings, ratings, corrections, critiques.

Each names responses by their index. Left out on purpose: turning one kind into another when data is read; a rating
that a data set gives stays a rating.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

RATINGS = ("scalar", "binary")
MOST_TIED = 12  # in one place of a ranking: its likelihood runs over all subsets of them

LabelType = Literal["pair", "ranking", "rating", "binary", "correction", "critique"]
# by the field of `Labels` that holds them; a rating's type hangs on its kind, and votes have none
TYPE_OF: dict[str, LabelType] = {
    "comparisons": "pair",
    "rankings": "ranking",
    "corrections": "correction",
    "critiques": "critique",
}
LABEL_TYPES: tuple[LabelType, ...] = ("pair", "ranking", "rating", "binary", "correction", "critique")


@dataclass(frozen=True)
class Comparison:
    """A judge held response `better` above response `worse` on one objective (indices into `responses`).

    `tie` means that the judge saw no difference. `margin` is how much better, in the judge's own units, where
    given.
    """

    objective: str
    better: int
    worse: int
    tie: bool = False
    margin: float | None = None
    judge: str = "human"


@dataclass(frozen=True)
class Ranking:
    """A judge put several responses in order on one objective, the best first.

    `order` holds groups of indices into `responses`; those in one group are tied. Responses that it doesn't name
    weren't ranked.
    """

    objective: str
    order: tuple[tuple[int, ...], ...]
    judge: str = "human"

    def comparisons(self) -> Iterator[Comparison]:
        """What the ranking says of every two of its responses."""
        for place, group in enumerate(self.order):
            for one, other in combinations(group, 2):
                yield Comparison(self.objective, one, other, tie=True, judge=self.judge)
            for later in self.order[place + 1 :]:
                for better in group:
                    for worse in later:
                        yield Comparison(self.objective, better, worse, judge=self.judge)


@dataclass(frozen=True)
class Rating:
    """A judge's number for one response on one objective, on the scale `low` to `high` (higher is better).

    A `binary` one is a yes (`high`) or a no (`low`): a thumb up, or a sign of safety.
    """

    objective: str
    response: int
    value: float
    low: float
    high: float
    judge: str = "human"
    kind: Literal["scalar", "binary"] = "scalar"


@dataclass(frozen=True)
class Correction:
    """Somebody rewrote response `original` into `corrected`, changing only what was wrong on one objective.

    Which parts differ says where the fault was. It judges nothing by itself: the comparison that goes with it is among
    the record's comparisons.
    """

    objective: str
    corrected: int
    original: int
    judge: str = "human"


@dataclass(frozen=True)
class Critique:
    """What a judge said in words: of one response, or of all together (`response` None); on one objective, or at
    large (`objective` empty).
    """

    text: str
    response: int | None = None
    objective: str = ""
    judge: str = "human"


@dataclass(frozen=True)
class Labels:
    """All that was judged about a record's responses.

    `votes` are single judges' choices that a comparison sums up, such as five raters' of whom three agreed: they say
    how far the judges agree, and nothing is learned from them.
    """

    comparisons: tuple[Comparison, ...] = ()
    ratings: tuple[Rating, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    corrections: tuple[Correction, ...] = ()
    critiques: tuple[Critique, ...] = ()
    votes: tuple[Comparison, ...] = ()

    def pairs(self) -> Iterator[Comparison]:
        """The comparisons, and those that the rankings amount to."""
        yield from self.comparisons
        for ranking in self.rankings:
            yield from ranking.comparisons()

    def types(self) -> tuple[LabelType, ...]:
        """Which types of labels there are, in the order of `LABEL_TYPES`."""
        found = {
            "pair": bool(self.comparisons),
            "ranking": bool(self.rankings),
            "rating": any(rating.kind == "scalar" for rating in self.ratings),
            "binary": any(rating.kind == "binary" for rating in self.ratings),
            "correction": bool(self.corrections),
            "critique": bool(self.critiques),
        }
        return tuple(name for name in LABEL_TYPES if found[name])

    def moved(self, place: Sequence[int]) -> Labels:
        """The same labels after response i has become response `place[i]`."""
        return Labels(
            comparisons=tuple(_moved_pair(comparison, place) for comparison in self.comparisons),
            ratings=tuple(
                dataclasses.replace(rating, response=place[rating.response]) for rating in self.ratings
            ),
            rankings=tuple(
                dataclasses.replace(
                    ranking, order=tuple(tuple(place[i] for i in group) for group in ranking.order)
                )
                for ranking in self.rankings
            ),
            corrections=tuple(
                dataclasses.replace(item, corrected=place[item.corrected], original=place[item.original])
                for item in self.corrections
            ),
            critiques=tuple(
                item if item.response is None else dataclasses.replace(item, response=place[item.response])
                for item in self.critiques
            ),
            votes=tuple(_moved_pair(vote, place) for vote in self.votes),
        )


LABELS = tuple(field.name for field in dataclasses.fields(Labels))


def _moved_pair(comparison: Comparison, place: Sequence[int]) -> Comparison:
    return dataclasses.replace(comparison, better=place[comparison.better], worse=place[comparison.worse])


class Labelled(Protocol):
    """What has all kinds of labels: `Labels`, or a record."""

    @property
    def comparisons(self) -> tuple[Comparison, ...]: ...
    @property
    def ratings(self) -> tuple[Rating, ...]: ...
    @property
    def rankings(self) -> tuple[Ranking, ...]: ...
    @property
    def corrections(self) -> tuple[Correction, ...]: ...
    @property
    def critiques(self) -> tuple[Critique, ...]: ...
    @property
    def votes(self) -> tuple[Comparison, ...]: ...


def check_labels(labels: Labelled, count: int, fail: Callable[[str], None]) -> None:
    """Calls `fail`, which raises, with what is wrong about labels of `count` responses."""
    _check_pairs(labels, count, fail)
    _check_ratings(labels, count, fail)
    _check_rankings(labels, count, fail)
    for correction in labels.corrections:
        name = correction.objective
        if not (0 <= correction.corrected < count and 0 <= correction.original < count):
            fail(f"a {name} correction names a response that is not there ({count} responses)")
        if correction.corrected == correction.original:
            fail(f"a {name} correction is of a response into itself")
    for critique in labels.critiques:
        if critique.response is not None and not 0 <= critique.response < count:
            fail(f"a critique names a response that is not there ({count} responses)")
        if not critique.text.strip():
            fail("a critique has no text")


def _check_pairs(labels: Labelled, count: int, fail: Callable[[str], None]) -> None:
    for what, comparison in (
        *(("comparison", item) for item in labels.comparisons),
        *(("vote", item) for item in labels.votes),
    ):
        name = f"{comparison.objective} {what}"
        if not (0 <= comparison.better < count and 0 <= comparison.worse < count):
            fail(f"a {name} names a response that is not there ({count} responses)")
        if comparison.better == comparison.worse:
            fail(f"a {name} sets a response against itself")
        if comparison.margin is not None and not 0 <= comparison.margin < math.inf:
            fail(f"a {name} has the margin {comparison.margin}; it must be 0 or more")


def _check_ratings(labels: Labelled, count: int, fail: Callable[[str], None]) -> None:
    for rating in labels.ratings:
        if not 0 <= rating.response < count:
            fail(f"a {rating.objective} rating names a response that is not there ({count} responses)")
        if not math.isfinite(rating.high - rating.low):
            fail(
                f"a {rating.objective} rating has a scale from {rating.low} to {rating.high}; both must be finite"
            )
        if not rating.low <= rating.value <= rating.high:
            fail(f"a {rating.objective} rating of {rating.value} is outside {rating.low} to {rating.high}")
        if rating.kind not in RATINGS:
            fail(f"a {rating.objective} rating of kind {rating.kind!r} is none of {', '.join(RATINGS)}")
        edges = (rating.low, rating.high)
        if rating.kind == "binary" and (rating.value not in edges or rating.low == rating.high):
            fail(
                f"a binary {rating.objective} rating is {rating.value}, not one of {rating.low} and {rating.high}"
            )


def _check_rankings(labels: Labelled, count: int, fail: Callable[[str], None]) -> None:
    for ranking in labels.rankings:
        places = [index for group in ranking.order for index in group]
        if not all(0 <= index < count for index in places):
            fail(f"a {ranking.objective} ranking names a response that is not there ({count} responses)")
        if len(set(places)) < len(places):
            fail(f"a {ranking.objective} ranking names a response twice")
        if len(places) < 2 or not all(ranking.order):
            fail(f"a {ranking.objective} ranking needs two responses or more, and one in each place")
        if max(map(len, ranking.order)) > MOST_TIED:
            fail(f"a {ranking.objective} ranking ties more than {MOST_TIED} responses")
