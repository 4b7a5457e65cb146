from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from data_tools.audits.folds import folds_of, groups_of
from data_tools.audits.pairs import MOST, Pair, PairSample, pairs_of
from data_tools.schema import (
    Comparison,
    PreferenceRecord,
    Ranking,
    Rating,
    Response,
    assistant,
    to_json,
    user,
)
from tests.data_tools.audit_records import pair

ANSWERS = tuple(Response(f"answer {letter}", model=f"m{letter}") for letter in "abcd")


def of(record: PreferenceRecord) -> list[Pair]:
    return pairs_of(to_json(record), record.split, 0)


def told(record: PreferenceRecord) -> list[tuple[str, str, str, str]]:
    """Label, objective, better answer, worse answer."""
    return [(p.label, p.objective, p.answers[p.better][-1], p.answers[1 - p.better][-1]) for p in of(record)]


def numbered(groups: np.ndarray[Any, Any]) -> list[int]:
    """Groups by their first pair: 0, 1, 2 ..."""
    names = list(dict.fromkeys(groups.tolist()))
    return [names.index(group) for group in groups.tolist()]


def test_a_pair_holds_both_answers_in_the_order_of_the_record() -> None:
    record = PreferenceRecord(
        id="x",
        source="s",
        prompt=(user("Hi"), assistant("Yes?"), user("Who?")),
        responses=ANSWERS,
        comparisons=(Comparison("o", better=2, worse=1), Comparison("o", better=0, worse=3, tie=True)),
    )
    (found,) = of(record)
    assert (found.answers, found.better, found.models) == (("answer b", "answer c"), 1, ("mb", "mc"))
    assert found.prompt == "user: Hi\nassistant: Yes?\nuser: Who?"
    assert (found.modality, found.split, found.objective, found.label) == ("text", "train", "o", "comparison")


def test_rankings_and_ratings_are_pairs_where_they_differ() -> None:
    record = PreferenceRecord(
        id="x",
        source="s",
        prompt=(user("Hi"),),
        responses=ANSWERS,
        rankings=(Ranking("rank", ((1,), (0, 3))),),
        # two judges of b: their mean, 4, is c's rating; d's scale is another one
        ratings=(
            Rating("rate", 1, 3, 1, 5, judge="one"),
            Rating("rate", 1, 5, 1, 5, judge="two"),
            Rating("rate", 2, 4, 1, 5),
            Rating("rate", 3, 10, 0, 100),
        ),
    )
    assert told(record) == [
        ("ranking", "rank", "b", "a"),
        ("ranking", "rank", "b", "d"),
        ("rating", "rate", "b", "d"),
        ("rating", "rate", "c", "d"),
    ]


def test_a_long_ranking_gives_a_bounded_number_of_pairs() -> None:
    answers = tuple(Response(f"answer {i}") for i in range(40))
    record = PreferenceRecord(
        id="x",
        source="s",
        prompt=(user("Hi"),),
        responses=answers,
        rankings=(Ranking("rank", tuple((i,) for i in range(40))),),
    )
    assert MOST == 12
    assert len(of(record)) == 12
    sample = PairSample(1000)
    sample.see("train", 0, to_json(record))
    assert sample.seen == {("train", "s", "text"): 12}


@pytest.mark.parametrize("order", [1, -1])
def test_the_sample_is_the_same_in_any_order_and_says_what_it_leaves_out(order: int) -> None:
    rows = [to_json(pair(number, "yes", "no", picture=False)) for number in range(300)]
    sample = PairSample(50)
    for place, row in list(enumerate(rows))[::order]:
        sample.see("train", place, row)
    places = [p.place for p in sample.pairs()]
    assert len(places) == 50
    assert places == sorted(places)
    # drawn by hash, so all over the data
    assert Counter(place // 100 for place in places).keys() == {0, 1, 2}
    assert sample.notes() == ("words, text, train: a sample of 50 of 300 pairs",)
    whole = PairSample(50)
    for place, row in enumerate(rows):
        whole.see("train", place, row)
    assert [p.record for p in whole.pairs()] == [p.record for p in sample.pairs()]


def test_a_flip_pair_stays_or_goes_as_one() -> None:
    sample = PairSample(20)
    for number in range(100):
        record = pair(number, "yes", "no", provenance={"flip": f"f{number // 2}"})
        sample.see("train", number, to_json(record))
    halves = Counter(p.place // 2 for p in sample.pairs())
    assert len(halves) == 10
    assert set(halves.values()) == {2}


def test_what_shares_an_image_prompt_flip_or_group_is_one_group() -> None:
    same = pair(0, "a", "b").images
    records = [
        pair(0, "a0", "b0"),
        pair(1, "a1", "b1", prompt=(user(0, "other"),)),
        pair(2, "a2", "b2", prompt=(user(0, "of picture 0"),), images=same),
        pair(3, "a3", "b3", provenance={"flip": "f"}),
        pair(4, "a4", "b4", provenance={"flip": "f", "group": "g"}),
        pair(5, "a5", "b5", provenance={"group": "g"}),
        pair(6, "a6", "b6", prompt=(user(0, "other"),)),
        pair(7, "a7", "b7", picture=False),
        pair(8, "a8", "b8", picture=False, source="else", provenance={"group": "g"}),
    ]
    pairs = [p for place, record in enumerate(records) for p in pairs_of(to_json(record), "train", place)]
    assert numbered(groups_of(pairs)) == [0, 1, 0, 2, 2, 2, 1, 3, 4]
    # a group's number doesn't depend on what else is there
    assert groups_of(pairs[3:6]).tolist() == groups_of(pairs).tolist()[3:6]


def test_a_phrase_that_is_everywhere_links_nothing_but_the_same_answers() -> None:
    records = [
        pair(number, f"a{number // 2}", f"b{number // 2}", prompt=(user(0, "Describe the picture."),))
        for number in range(30)
    ]
    pairs = [p for place, record in enumerate(records) for p in pairs_of(to_json(record), "train", place)]
    assert numbered(groups_of(pairs)) == [number // 2 for number in range(30)]


def test_folds_hold_whole_groups_and_are_even() -> None:
    groups = np.array([number // 3 for number in range(150)])
    folds = folds_of(groups, seed=0)
    assert np.bincount(folds).tolist() == [30, 30, 30, 30, 30]
    assert all(len(set(folds[groups == group])) == 1 for group in range(50))
    assert folds.tolist() == folds_of(groups, seed=0).tolist()
    assert folds.tolist() != folds_of(groups, seed=1).tolist()
    assert folds_of(np.array([4, 4, 9]), 0).tolist() in ([0, 0, 1], [1, 1, 0])
    assert groups_of([]).tolist() == []


def test_one_question_with_fixed_answers_to_many_pictures_binds_nothing() -> None:
    """Thirty pictures, one question, "Yes." or "No.": thirty groups; without pictures it is one text over and over."""
    asked = {"prompt": (user(0, "Is there a cat?"),)}
    records = [
        pair(number, *(("Yes.", "No.") if number % 5 else ("No.", "Yes.")), **asked) for number in range(30)
    ]
    pairs = [p for place, record in enumerate(records) for p in pairs_of(to_json(record), "train", place)]
    assert numbered(groups_of(pairs)) == list(range(30))
    texts = [
        pair(number, "Yes.", "No.", picture=False, prompt=(user("Is there a cat?"),)) for number in range(30)
    ]
    pairs = [p for place, record in enumerate(texts) for p in pairs_of(to_json(record), "train", place)]
    assert numbered(groups_of(pairs)) == [0] * 30
