from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_fixtures import good

from data_tools.adapters.base import RowError
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import read_rating
from data_tools.adapters.structs import structs
from data_tools.adapters.ultrafeedback import UltraFeedbackConfig
from data_tools.adapters.vlfeedback import VlFeedbackConfig
from data_tools.config import parse_config
from data_tools.errors import UserError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (4, (4.0, "")),
        (4.5, (4.5, "")),
        ("4", (4.0, "")),
        ("4.0", (4.0, "")),
        (" 5 ", (5.0, "")),
        ("1.", (1.0, "")),
        (None, (None, "there is none")),
        ("N/A", (None, "not a number")),
        ("five", (None, "not a number")),
        ("", (None, "not a number")),
        ("4/5", (None, "not a number")),
        ("4 stars", (None, "not a number")),
        ("nan", (None, "not a number")),
        ("1_0", (None, "not a number")),
        ("٤", (None, "not a number")),  # a digit in another script
        (float("nan"), (None, "not a number")),
        (True, (None, "not a number")),
        ([4], (None, "not a number")),
        (float("inf"), (None, "not from 1 to 5")),
        (0, (None, "not from 1 to 5")),
        ("5.01", (None, "not from 1 to 5")),
        (-3, (None, "not from 1 to 5")),
        (10**400, (None, "not from 1 to 5")),
        ("9" * 400, (None, "not from 1 to 5")),
    ],
)
def test_hazard_23_ratings_that_are_no_plain_number(
    value: object, expected: tuple[float | None, str]
) -> None:
    assert read_rating(value, 1, 5) == expected


def test_hazard_24_a_rationale_is_never_read_as_ratings() -> None:
    said = "Rating: 2\n\nThe second paragraph would give it a 5.\n\nRating: 5"
    assert read_rating(said, 1, 5) == (None, "not a number")
    assert read_rating(f"4\n\n{said}", 1, 5) == (None, "not a number")
    annotations = {"helpfulness": {"Rating": "4", "Rationale": said}}
    completions = [{"response": "Yes.", "annotations": annotations}]
    config = UltraFeedbackConfig(name="x", path=Path("x.jsonl"))
    record = good(config.adapt({"instruction": "Is it?", "completions": completions}))
    assert [(rating.objective, rating.value) for rating in record.ratings] == [("helpfulness", 4.0)]
    assert [(said.objective, said.text) for said in record.critiques] == [("helpfulness", said)]


def test_hazard_24_the_order_of_the_answers_changes_no_label() -> None:
    def completion(text: str, rating: str) -> dict[str, Any]:
        return {"response": text, "annotations": {"honesty": {"Rating": rating}}}

    answers = [completion("a", "2"), completion("b", "5"), completion("c", "2")]
    config = UltraFeedbackConfig(name="x", path=Path("x.jsonl"))
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        row = {"instruction": "q", "completions": [answers[place] for place in order]}
        record = good(config.adapt(row))
        found = {record.responses[rating.response].text: rating.value for rating in record.ratings}
        assert found == {"a": 2.0, "b": 5.0, "c": 2.0}


def test_hazard_23_equal_ratings_are_no_choice() -> None:
    annotations = {"honesty": {"Rating": "4"}}
    completions = [{"response": text, "annotations": annotations} for text in ("a", "b", "a")]
    config = UltraFeedbackConfig(name="x", path=Path("x.jsonl"))
    record = good(config.adapt({"instruction": "q", "completions": completions}))
    # answers that are the same stay apart, and each keeps its rating
    assert [response.text for response in record.responses] == ["a", "b", "a"]
    assert [(rating.response, rating.value) for rating in record.ratings] == [(0, 4.0), (1, 4.0), (2, 4.0)]
    assert (record.comparisons, record.rankings) == ((), ())


def test_objects_of_lists_become_lists_of_objects() -> None:
    expected = [{"a": 1, "b": {"c": 3, "d": "x"}}, {"a": 2, "b": {"c": 4, "d": "y"}}]
    assert structs(expected, "it") == expected
    assert structs({"a": [1, 2], "b": [row["b"] for row in expected]}, "it") == expected
    assert structs({"a": [1, 2], "b": {"c": [3, 4], "d": ["x", "y"]}}, "it") == expected
    assert structs({}, "it") == []
    assert structs({"a": [], "b": []}, "it") == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [1, 2], "b": [1]}, "the lists a and b of it differ in length"),
        ({"a": [1], "b": [1], "c": []}, "the lists a and c of it differ in length"),
        ({"a": [1], "b": {"c": [1], "d": []}}, "the lists c and d of it.b differ in length"),
        ({"a": [1], "b": 2}, "it is an object, but its b is no list"),
        ({"a": {"a": {"a": {"a": {"a": [1]}}}}}, "it.a.a.a.a is no list of objects"),
        ([{"a": 1}, 2], "it is no list of objects"),
        ("words", "it is no list of objects"),
        (None, "it is no list of objects"),
    ],
)
def test_lists_that_cannot_be_joined_are_refused_by_name(value: object, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        structs(value, "it")
    assert (str(caught.value), caught.value.code) == (reason, "field-wrong")


def test_objectives_can_be_renamed() -> None:
    annotations = {"Helpfulness": {"Rating": 3}, "Visual Faithfulness": {"Rating": 2}}
    names = {"Visual Faithfulness": "faithfulness"}
    row = {"prompt": "q", "completions": [{"response": "a", "annotations": annotations}]}
    path = Path(__file__).resolve().parents[1] / "fixtures" / "vlfeedback.jsonl"
    config = VlFeedbackConfig(name="x", path=path, objectives=names, judge="gpt-4o")
    record = good(config.adapt({**row, "img_path": "VLFeedback_images/svit-1.png"}))
    assert [(rating.objective, rating.value, rating.judge) for rating in record.ratings] == [
        ("helpfulness", 3.0, "gpt-4o"),
        ("faithfulness", 2.0, "gpt-4o"),
    ]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (
            {"Honesty": "honesty"},
            "'Honesty' is no aspect of this format; it has Helpfulness, Ethical Considerations, Visual Faithfulness",
        ),
        ({"Helpfulness": ""}, "the objective of 'Helpfulness' is empty"),
        (
            {"Visual Faithfulness": "helpfulness"},
            "'Helpfulness' and 'Visual Faithfulness' would both be ratings of 'helpfulness'",
        ),
    ],
)
def test_objectives_that_cannot_be(objectives: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config({"name": "x", "path": "x", "objectives": objectives}, VlFeedbackConfig, "c.yaml")
    assert message in str(caught.value)


def test_what_a_provenance_can_hold() -> None:
    row = {
        "id": 0,
        "empty": "",
        "none": None,
        "nan": float("nan"),
        "half": "\ud800",
        "raw": b"x",
        "list": [1],
    }
    assert told(row, row) == {"id": 0, "nan": "nan", "half": "'\\ud800'", "raw": "1 bytes", "list": [1]}
    assert others(row, ("half",)) == {"fields": {"id": 0, "nan": "nan"}}
    assert others({"list": [1]}, ()) == {}
    assert others({"half \ud800": 1}, ()) == {"fields": {"'half \\ud800'": 1}}
    # a picture never gets there, in however many words
    assert told({"image": {"bytes": b"\x89PNG", "path": "a.png"}}, ["image"]) == {
        "image": "{'bytes': '4 bytes', 'path': 'a.png'}"
    }
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert plain(deep) == "nested too deep to be kept"


RATING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)


@given(RATING)
@settings(max_examples=200, deadline=None)
def test_a_rating_is_on_its_scale_or_none(value: object) -> None:
    number, reason = read_rating(value, -3, 3)
    assert (number is None) == bool(reason)
    assert number is None or -3 <= number <= 3
