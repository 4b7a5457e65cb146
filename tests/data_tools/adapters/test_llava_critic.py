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
        ("**The first response is better.** It reads the sign.", 0),
        ("Overall, Response 2 is clearly better than Response 1.", 1),
        (
            "The first response describes the dog, while the second invents one. So the first response is better.",
            0,
        ),
        (
            "The second response is more detailed. However, it invents a dog. Therefore, the first response is better.",
            0,
        ),
        ("The first response is better than the second response because it is more accurate.", 0),
        (
            "The first response is better. It gives a more accurate description of the sign than the second response.",
            0,
        ),
        ("The first response is better. The second response is worse at reading.", 0),
        ("Both responses are equally good. They read the sign.", None),
        ("The first response and the second response are equally good.", None),
        ("Final verdict: Response 1 is better.", 0),
        ("I think the second response is better.", 1),
        ("The second response invents a dog, so the first response is better.", 0),
        ("Compared with the second response, the first response is better.", 0),
        (
            "The second response is better. Unlike the first response, it is more specific and names the breed.",
            1,
        ),
        ("Although it is short, the first response is better.", 0),
        (
            "First, the sign is red. Second, it says stop. The second response is better since it reads both.",
            1,
        ),
        ("In conclusion, the second response is the better answer.", 1),
        ("The first response is preferred over the second response.", 0),
        ("The second response is superior to the first response, as it reads the sign.", 1),
        ("The first response is better overall.", 0),
        ("Response 2 is better. It better describes the dog.", 1),
        ("It is a tie.", None),
        ("Both are equally bad, since both invent a dog.", None),
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
        "Although one could say the first response is better, the second is the clear winner",
        "I cannot say the first response is better",
        "Response 1 is better at colors. However, Response 2 wins overall",
        "The two are equally good, but Response 1 is more accurate.",
        "Both responses are equally good. The first response is more accurate.",
        "The responses are tied, though the first response is more accurate.",
        "The first response is better? Hardly.",
        "Is the first response better? The first response is better at colors.",
        "Some say, the first response is better.",
        "The first response is better. However, I prefer the second response.",
        "The first response is better. The winner is Response 2.",
        "The first response is better, but the second wins.",
        "The first response is better. Actually, the latter is preferable.",
        "The first response is better if you like cats.",
        "The first response is better only in length.",
        "The first response would be the winner. The second response is better.",
        "One might claim: the first response is better.",
        '"The first response is better" is what a careless judge writes.',
        "The first response is equally good at colors.",
        "They are not equally good.",
        "I don't think the first response is better.",
        "The first response is arguably better.",
        "The first response is better or worse.",
        "While the second response is more detailed, the first response is better.",
        "The first response is better. Yet the second response outperforms it on the whole.",
        "The first response is better in color. The second response is better in shape.",
        "The first response is better. That is false.",
        "Nobody would say the first response is better.",
        "It's a tie? The first response is better. They are of equal quality.",
        "The first response is better. The second response is not worse.",
        "The first response is better written.",
        "The first response is better. But the other wins.",
        "The first response is better. B is the best.",
        "The first response is better on paper.",
        "The first response is better, or so they say.",
        "The first response is better. Response 2, however, is the stronger one.",
        "Both responses are equally good. I prefer the second one.",
        "The first response is better. " + "The sign is red and " * 200,
    ],
)
def test_verdicts_that_are_not(verdict: str) -> None:
    assert why(adapt(ASKED, verdict)) == UNCLEAR


def test_sections_that_stand_twice_are_refused() -> None:
    for asked in (f"{ASKED}\nThe first response: [x]", f"Question: a\n{ASKED}", "The first response: [a]"):
        assert why(adapt(asked, "The first response is better."))[0] == "field-wrong"
