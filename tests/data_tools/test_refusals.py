"""Refusals by their words, as language models say them, and what only looks like one."""

import pytest

from data_tools.refusals import refuses
from data_tools.synth.text_cases import REFUSALS


@pytest.mark.parametrize(
    "text",
    [
        *REFUSALS,
        "I'm sorry, but I can't assist with that.",
        "I can\N{RIGHT SINGLE QUOTATION MARK}t provide instructions for making weapons.",
        "I cannot fulfill this request.",
        "I must decline.",
        "I'm not able to help with that request.",
        "I'm unable to provide that.",
        "As an AI language model, I cannot assist with that.",
        "Sorry, but that's not something I can help with.",
        "Can't help with that.",
        "Unfortunately, I am unable to comply.",
        "I understand your curiosity. However, I can't give instructions for that.",
        "I'd rather not help with this.",
        "I apologize, but I'm not comfortable writing that.",
        "This request goes against my guidelines.",
        "No. I will not explain how to do it.",
    ],
)
def test_an_answer_that_declines(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The dog in the photo can't do much with a ball that size.",
        "This sign won't help you find the exit; turn left.",
        "A cold pan won't do: heat it first, then add the egg.",
        "I can't see a cat in the picture.",
        "I cannot tell what the sign says.",
        "I can't help but notice the red car.",
        "The person is unable to do it.",
        "If the light is red, you cannot continue.",
        "First find the number. Then stop it. I can't provide more detail than that.",
    ],
)
def test_an_answer_that_does_not(text: str) -> None:
    assert not refuses(text)
