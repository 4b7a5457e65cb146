"""Rows whose judgements contradict themselves: ties told as preferences, equal ratings, a text above itself."""

from __future__ import annotations

from typing import Any

import pytest
from row_forms import adapted, assistant, user
from text_fixtures import good, why

from data_tools.schema import PreferenceRecord, Ranking

Q, A, B = user("Q?"), assistant("a"), assistant("b")
PAIRS: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
    ("trl", {"prompt": "Q?", "chosen": "a", "rejected": "b"}, {}),
    ("messages", {"messages": [Q, A], "rejected_response": "b"}, {}),
    ("llamafactory", {"instruction": "Q?", "chosen": "a", "rejected": "b"}, {}),
    ("columns", {"q": "Q?", "y": "a", "n": "b"}, {"prompt": "q", "chosen": "y", "rejected": "n"}),
    ("tulu3", {"prompt": "Q?", "chosen": [Q, A], "rejected": [Q, B]}, {}),
    ("skywork_reward", {"chosen": [Q, A], "rejected": [Q, B]}, {}),
    ("mmpr", {"question": "Q?", "chosen": "a", "rejected": "b", "answer_gt": "a"}, {}),
)


@pytest.mark.parametrize(("kind", "row", "settings"), PAIRS, ids=[kind for kind, _, _ in PAIRS])
def test_a_tie_is_no_preference(kind: str, row: dict[str, Any], settings: dict[str, str]) -> None:
    for key, value in (
        ("is_tie", True),
        ("tie", 1),
        ("tie", "true"),
        ("winner", "tie"),
        ("preference", "Tie"),
    ):
        told = adapted(kind, {**row, key: value}, **settings)
        assert why(told) == ("tied", f"{key} says that neither answer is better")
    for key, value in (("is_tie", False), ("tie", None), ("tie", "red"), ("winner", "a"), ("preference", 1)):
        good(adapted(kind, {**row, key: value}, **settings))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("chosen_rating", "rejected_rating"),
        ("score_chosen", "score_rejected"),
        ("chosen-rating", "rejected-rating"),
        ("chosen_avg_rating", "rejected_avg_rating"),
        ("chosen_reward", "rejected_reward"),
    ],
)
@pytest.mark.parametrize(("kind", "row", "settings"), PAIRS, ids=[kind for kind, _, _ in PAIRS])
def test_equal_ratings_are_no_preference(
    kind: str, row: dict[str, Any], settings: dict[str, str], one: str, other: str
) -> None:
    for values in ((3, 3.0), ("4", 4), (0.5, "0.5")):
        told = adapted(kind, {**row, one: values[0], other: values[1]}, **settings)
        assert why(told) == ("tied", f"{one} and {other} are equal, so neither answer is better")
    for values in ((4, 3), (None, None), (2, 3), ("high", "high")):  # the lower may be another judge's
        good(adapted(kind, {**row, one: values[0], other: values[1]}, **settings))


def test_equal_numbers_that_rate_nothing_do_not_count() -> None:
    row = {"prompt": "Q?", "chosen": "a", "rejected": "b"}
    for name in ("{}_tokens", "{}_toxicity_score", "{}_length"):
        good(adapted("trl", {**row, name.format("chosen"): 3, name.format("rejected"): 3}))


def test_a_tie_of_the_format_itself_stays_one() -> None:
    row = {"image": "images/red.png", "prompt": "Q?", "chosen": "a", "rejected": "b", "is_tie": True}
    assert good(adapted("mm_rlhf", row)).comparisons[0].tie


def ranked(*answers: tuple[str, int]) -> Any:
    listed = [{"answer": text, "model": "m", "rank": rank} for text, rank in answers]
    return adapted("nectar", {"prompt": "Q?", "answers": listed})


@pytest.mark.parametrize(
    ("answers", "order"),
    [
        ([("a", 1), ("a", 2), ("b", 3)], ((0,), (2,))),  # places next to each other
        ([("a", 1), ("a", 1), ("b", 2)], ((0,), (2,))),  # one place
        ([("a", 1), ("b", 2), ("a", 3), ("c", 4)], ((1,), (3,))),  # above b and below it
        ([("a", 1), ("b", 2), ("a", 2), ("c", 3)], ((1,), (3,))),  # above b and beside it
        ([("b", 1), ("a", 2), ("c", 3), ("a", 3), ("c", 4), ("d", 5)], ((0,), (5,))),
    ],
)
def test_a_text_has_one_place_in_a_ranking(answers: list[tuple[str, int]], order: Any) -> None:
    record: PreferenceRecord = good(ranked(*answers))
    assert record.rankings == (Ranking("helpfulness", order, "gpt-4"),)
    texts = [response.text for response in record.responses]
    assert texts == [text for text, _ in answers]
    assert all(texts[pair.better] != texts[pair.worse] for pair in record.pairs())
    groups = [[i for i, other in enumerate(texts) if other == text] for text in dict.fromkeys(texts)]
    assert record.provenance["same_answers"] == [group for group in groups if len(group) > 1]


def test_fewer_than_two_different_answers_are_no_ranking() -> None:
    told = ("same-answers", "no two different answers were compared")
    assert why(ranked(("a", 1), ("a", 2))) == told
    assert why(ranked(("a", 1), ("b", 2), ("a", 3))) == told


def test_the_same_answers_in_other_rankings() -> None:
    main = {
        "image": "images/red.png",
        "question": "Q?",
        "models_output": ["a", "a", "b"],
        "faithfulness": [5, 4, 1],
        "helpfulness": [5, 4, 1],
        "ethical": [5, 5, 5],
        "final_ranking": [1, 2, 3],
    }
    record = good(adapted("mm_rlhf_ratings", main))
    assert record.rankings[0].order == ((0,), (2,))
    assert len(record.ratings) == 9  # each is of one answer by itself, and stays
    only = good(adapted("mm_rlhf_ratings", {**main, "models_output": ["a", "a", "a"]}))
    assert (only.rankings, len(only.ratings)) == ((), 9)
    flat = {
        "prompt": "Q?",
        **{"r1": "a", "r2": "b", "r3": "a"},
        "preference.responses": [[{"value": f"r{n}", "rank": n} for n in (1, 2, 3)]],
        "preference.responses.users": ["u"],
    }
    told = adapted("argilla", flat, answers=["r1", "r2", "r3"])
    assert why(told) == ("same-answers", "no two different answers were compared")
