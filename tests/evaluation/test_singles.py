"""What is measured of heads that learn from responses judged one by one."""

import dataclasses

import pytest
from evaluation_stubs import NORMS, RuleModel, flips, longest, pair

from data_tools.schema import PreferenceRecord, Rating, Response, user
from mmrlhf.evaluation.reward import Extent, evaluate_reward

YES, NO = 1.0, 0.0


def thumb(number, text, value, objective="safety"):
    """A prompt with one answer that was judged by yes or no."""
    return PreferenceRecord(
        id=f"r{number}",
        source="test",
        prompt=(user(f"Question {number}?"),),
        responses=(Response(text),),
        ratings=(Rating(objective, 0, value, 0.0, 1.0, kind="binary"),),
    )


def rated(number, **ratings):
    """A prompt with an answer a rating, of 0 to 4."""
    return PreferenceRecord(
        id=f"r{number}",
        source="test",
        prompt=(user(f"Question {number}?"),),
        responses=tuple(map(Response, ratings)),
        ratings=tuple(Rating("helpfulness", i, value, 0.0, 4.0) for i, value in enumerate(ratings.values())),
    )


def test_yes_or_no(tiny):
    judge = RuleModel(tiny, lambda *row: longest(*row) - 3.5)
    records = [thumb(i, text, value) for i, (text, value) in enumerate(
        [("four", YES), ("fivee", YES), ("two", YES), ("one", NO), ("fours", NO)]
    )]  # fmt: skip
    found = evaluate_reward(judge, records, 8, 0)
    by = found.singles["safety"]
    # raw rewards 0.5, 1.5, -0.5 of yes, -0.5, 1.5 of no: of 6 pairs 1 + 1 + half + half are in order
    assert by["yes_no_auroc"]["text"]["true"].mean == pytest.approx(3 / 6)
    assert (by["yes_no_accuracy"]["text"]["true"].mean, by["yes_no_accuracy"]["text"]["true"].n) == (0.6, 5)
    assert set(found.singles) == {"safety"}
    assert (found.accuracy, found.images) == ({}, 0)


def test_the_sign_is_of_the_raw_reward_whatever_the_norm(tiny):
    """A head's mean is taken off its rewards, but the 0 of its logit stays where training put it."""
    judge = RuleModel(tiny, lambda *row: longest(*row) - 3.5)
    judge.card = dataclasses.replace(judge.card, norms={name: {"text": (100.0, 4.0)} for name in NORMS})
    records = [thumb(0, "four", YES), thumb(1, "two", NO)]
    found = evaluate_reward(judge, records, 8, 0).singles["safety"]
    assert found["yes_no_accuracy"]["text"]["true"].mean == 1.0


def test_all_yes_has_no_order(tiny):
    found = evaluate_reward(RuleModel(tiny, longest), [thumb(0, "a", YES), thumb(1, "b", YES)], 8, 0)
    assert list(found.singles["safety"]) == ["yes_no_accuracy"]


def test_ratings_of_one_prompt_and_of_any(tiny):
    records = [rated(0, a=0, bb=2, ccc=2), rated(1, dddd=1), rated(2, f=4, ee=0)]
    by = evaluate_reward(RuleModel(tiny, longest), records, 8, 0).singles["helpfulness"]
    pairs, order = by["rated_pairs"]["text"]["true"], by["rating_order"]["text"]["true"]
    # a < bb and a < ccc, but not ee < f; bb and ccc are rated alike
    assert (pairs.mean, pairs.n) == (pytest.approx(2 / 3), 3)
    # ratings 0 2 2 1 4 0 of lengths 1 2 3 4 1 2: of 13 pairs of unequal ratings
    # a: bb, ccc, dddd right, f half; ee: ccc, dddd right, bb half, f wrong; dddd: bb, ccc, f wrong; f: bb, ccc wrong
    assert (order.mean, order.n) == (pytest.approx(6 / 13), 6)


def test_several_judges_of_a_response_count_by_their_mean(tiny):
    record = rated(0, a=1, bb=1)
    more = dataclasses.replace(
        record, ratings=(*record.ratings, Rating("helpfulness", 1, 10.0, 0.0, 10.0, judge="b"))
    )
    found = evaluate_reward(RuleModel(tiny, longest), [more, rated(1, x=1)], 8, 0).singles["helpfulness"]
    assert (found["rated_pairs"]["text"]["true"].mean, found["rated_pairs"]["text"]["true"].n) == (1.0, 1)


def test_under_every_condition_and_of_heads_that_never_learnt_there(tiny):
    pictures = [
        dataclasses.replace(
            record,
            comparisons=(),
            provenance={},
            ratings=(Rating("safety", 0, float(i % 2), 0.0, 1.0, kind="binary"),),
        )
        for i, record in enumerate(flips(2))
    ]
    found = evaluate_reward(
        RuleModel(tiny, lambda record, text, shown: float(shown)),
        [*pictures, pair(0, "a", "b", objectives=())],
        8,
        0,
        extent=Extent(("none", "noise")),
    )
    accuracy = found.singles["safety"]["yes_no_accuracy"]["image-text"]
    # 1 with any image and 0, which is no yes, without one; half are judged yes
    assert {name: e.mean for name, e in accuracy.items()} == {"true": 0.5, "none": 0.5, "noise": 0.5}
    assert (found.images, found.silent) == (4, {"safety": ["image-text"]})
