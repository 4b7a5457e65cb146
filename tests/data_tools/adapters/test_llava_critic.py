"""LLaVA-Critic: what is plain in a verdict is read, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from text_fixtures import FIXTURES, good, read, why

from data_tools.adapters.llava_critic import LlavaCriticConfig
from data_tools.schema import Comparison, Critique, Message, Part, Rating, Response
from data_tools.source import Read

SHOWN = (Message("user", (Part(image=0), Part(text="What does the sign say?"))),)
UNCLEAR = ("no-preference", "the verdict doesn't say plainly which response is better")
NO_SCORE = ("no-preference", "the verdict doesn't say plainly one score on the scale that was asked for")
ASKED = "Question: [What does the sign say?]\nThe first response: [Stop.]\nThe second response: [Go.]"


def adapt(asked: str, verdict: str) -> Read:
    row: dict[str, Any] = {
        "image": "images/red.png",
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": verdict}],
    }
    return LlavaCriticConfig(name="x", path=FIXTURES / "llava_critic.jsonl").adapt(row)


def test_verdicts_on_pairs_and_on_single_answers() -> None:
    first, tie, score, of_ten, second = (
        good(row) for row in read(LlavaCriticConfig, "llava_critic.jsonl")[:5]
    )
    assert first.prompt == of_ten.prompt == SHOWN
    assert first.responses == (Response("It says stop."), Response("It says go.\nI am sure."))
    assert first.comparisons == (Comparison("helpfulness", 0, 1, judge="gpt-4o"),)
    assert first.critiques == (
        Critique("The first response is better. It reads the sign.", None, "helpfulness", "gpt-4o"),
    )
    assert first.provenance == {"id": "c1", "source": "s"}
    assert tie.comparisons == (Comparison("helpfulness", 0, 1, tie=True, judge="gpt-4o"),)
    assert (score.responses, score.comparisons) == ((Response("It says stop."),), ())
    assert score.ratings == (Rating("helpfulness", 0, 90.0, 0.0, 100.0, "gpt-4o"),)
    assert score.critiques[0].response == 0
    assert of_ten.ratings == (Rating("helpfulness", 0, 7.0, 0.0, 10.0, "gpt-4o"),)
    assert second.comparisons == (Comparison("helpfulness", 1, 0, judge="gpt-4o"),)


def test_what_is_not_plain_is_refused() -> None:
    assert [why(row) for row in read(LlavaCriticConfig, "llava_critic.jsonl")[5:]] == [
        *[UNCLEAR] * 3,
        NO_SCORE,
        ("no-preference", "the verdict's score is above its scale"),
        NO_SCORE,
        ("field-wrong", "conversations doesn't name a question and one or two responses, each once"),
        ("field-wrong", "the first section goes on after its bracket"),
        ("field-wrong", "conversations is not one question to the judge and its verdict"),
        ("field-missing", "has no field image"),
        ("same-answers", "the two responses are the same answer"),
    ]


@pytest.mark.parametrize(
    ("verdict", "better"),
    [
        ("The second response is much better than the first response.", 1),
        ("The second answer doesn't invent a dog. Therefore, the second answer is preferable.", 1),
        ("RESPONSE 1 IS BETTER", 0),
        ("The first response is better because there is no dog, and it is not wrong.", 0),
        ("Not seeing a dog, the first response is superior.", 0),
        ("The two are equally good.", None),
    ],
)
def test_plain_verdicts(verdict: str, better: int | None) -> None:
    (comparison,) = good(adapt(ASKED, verdict)).comparisons
    assert (None if comparison.tie else comparison.better) == better


@pytest.mark.parametrize(
    "verdict",
    [
        "It is not true that the first response is better.",
        "It isn't clear that the first response is better.",
        "If it were short, the first response is better.",
        "I can't say whether the second response is better.",
        "The first response is no better.",
        "The first response is not much better.",
        "The first response is better. No: the second response is better.",
        "They are equally good, but the first response is better.",
        "The first response is worse.",
        "The first response better describes it.",
        "1",
    ],
)
def test_verdicts_that_are_not(verdict: str) -> None:
    assert why(adapt(ASKED, verdict)) == UNCLEAR


def test_sections_that_stand_twice_are_refused() -> None:
    for asked in (f"{ASKED}\nThe first response: [x]", f"Question: a\n{ASKED}", "The first response: [a]"):
        assert why(adapt(asked, "The first response is better."))[0] == "field-wrong"
