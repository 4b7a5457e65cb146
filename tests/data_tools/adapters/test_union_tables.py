"""Tables of several forms, whose rows have null where they lack a field; and judgements that are blank."""

from __future__ import annotations

from typing import Any

import pytest
from row_forms import adapted, assistant, user
from text_fixtures import good, why

from data_tools.schema import Comparison, Response

Q, A, B = user("Q?"), assistant("a"), assistant("b")
PAIR = (Comparison("helpfulness", 0, 1, judge="unknown"),)
TRL = dict.fromkeys(
    ("prompt", "completion", "label", "chosen", "rejected", "images", "video", "margin", "system")
)
MESSAGES = dict.fromkeys(("messages", "rejected_response", "rejected_messages", "label", "solution", "tools"))
FACTORY = dict.fromkeys(
    (
        "conversations",
        "messages",
        "instruction",
        "input",
        "output",
        "history",
        "chosen",
        "rejected",
        "kto_tag",
    )
)
TURNS = [{"from": "human", "value": "Q?"}]
BLANK = (
    "{} is blank, so its answer wasn't judged: leave such rows out, or set unjudged to demonstration to imitate "
    "their answers"
)


def test_null_is_as_good_as_no_field() -> None:
    for kind, row in (
        ("trl", {**TRL, "prompt": "Q?", "chosen": "a", "rejected": "b"}),
        ("trl", {**TRL, "chosen": [Q, A], "rejected": [Q, B]}),
        ("trl", {**TRL, "prompt": "Q?", "completion": "", "chosen": "a", "rejected": "b"}),
        ("trl", {**TRL, "prompt": "Q?", "chosen_messages": [A], "rejected_messages": [B]}),
        ("messages", {**MESSAGES, "messages": [Q, A], "rejected_response": "b"}),
        ("messages", {**MESSAGES, "messages": [Q, A], "rejected_messages": [Q, B]}),
        ("llamafactory", {**FACTORY, "conversations": TURNS, "chosen": A, "rejected": B}),
        ("llamafactory", {**FACTORY, "instruction": "Q?", "chosen": "a", "rejected": "b"}),
    ):
        record = good(adapted(kind, row))
        assert (record.responses, record.comparisons) == ((Response("a"), Response("b")), PAIR), row
    for kind, row in (
        ("trl", {**TRL, "prompt": "Q?", "completion": "a", "label": False}),
        ("messages", {**MESSAGES, "messages": [Q, A], "label": 0}),
        ("llamafactory", {**FACTORY, "messages": [Q, A], "kto_tag": "false"}),
    ):
        assert [rating.value for rating in good(adapted(kind, row)).ratings] == [0.0], row
    for kind, row in (
        (
            "trl",
            {
                key: value
                for key, value in {**TRL, "prompt": "Q?", "completion": "a"}.items()
                if key != "label"
            },
        ),
        ("llamafactory", {"instruction": "Q?", "output": "a", "chosen": None, "rejected": ""}),
        ("messages", {"messages": [{**A, "from": None, "value": None, "role": "user"}, A], "solution": None}),
    ):
        record = good(adapted(kind, row))
        assert (record.responses, record.comparisons, record.ratings) == ((Response("a"),), (), ())


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        (
            "trl",
            {"prompt": "Q?", "completion": "c", "chosen": "a", "rejected": "b"},
            "completion and chosen and rejected",
        ),
        (
            "messages",
            {"messages": [Q, A], "rejected_response": "b", "label": True},
            "rejected_response and label",
        ),
        (
            "llamafactory",
            {"instruction": "Q?", "chosen": "a", "rejected": "b", "label": 1},
            "chosen and label",
        ),
        ("llamafactory", {"conversations": [*TURNS, A], "messages": [Q, B]}, "conversations and messages"),
    ],
)
def test_a_row_of_two_forms_is_refused(kind: str, row: dict[str, Any], reason: str) -> None:
    code, told = why(adapted(kind, row))
    assert (code, told.startswith(f"has both {reason}")) == ("field-wrong", True), told


@pytest.mark.parametrize("blank", [None, "", " ", [], float("nan")])
@pytest.mark.parametrize(
    ("kind", "row", "key", "settings"),
    [
        ("messages", {"messages": [Q, A]}, "label", {}),
        ("messages", {"messages": [Q, A]}, "rejected_response", {}),
        ("messages", {"messages": [Q, A]}, "rejected_messages", {}),
        ("trl", {"prompt": "Q?", "completion": "a"}, "label", {}),
        ("llamafactory", {"conversations": [*TURNS, A]}, "kto_tag", {}),
        ("llamafactory", {"instruction": "Q?", "output": "a"}, "label", {}),
        ("columns", {"q": "Q?", "a": "a"}, "ok", {"prompt": "q", "response": "a", "label": "ok"}),
    ],
)
def test_a_blank_judgement_is_no_demonstration_unless_that_is_said(
    kind: str, row: dict[str, Any], key: str, settings: dict[str, str], blank: object
) -> None:
    assert why(adapted(kind, {**row, key: blank}, **settings)) == ("no-preference", BLANK.format(key))
    taken = good(adapted(kind, {**row, key: blank}, **settings, unjudged="demonstration"))
    assert (taken.responses, taken.comparisons, taken.ratings) == ((Response("a"),), (), ())


def test_what_an_alpaca_pair_has_as_output_is_kept_aside() -> None:
    row = {"instruction": "Q?", "output": "c", "chosen": "a", "rejected": "b"}
    assert good(adapted("llamafactory", row)).provenance == {"fields": {"output": "c"}}
