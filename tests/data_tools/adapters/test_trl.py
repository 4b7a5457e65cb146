"""Texts of TRL rows: where their pictures stand, and the blanks around their parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_tools.adapters.trl import TrlConfig
from data_tools.schema import Message, Part, PreferenceRecord
from data_tools.source import Rejected

IMAGES = Path(__file__).resolve().parents[1] / "fixtures" / "images"
CONFIG = TrlConfig(name="trl", path=IMAGES / "rows.jsonl")
ANSWERS = {"chosen": "a", "rejected": "b"}
IMAGE = {"type": "image"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def record(row: dict[str, Any]) -> PreferenceRecord:
    (found,) = CONFIG.adapt(row)  # type: ignore[misc]  # a row that is rejected fails here
    assert isinstance(found, PreferenceRecord)
    return found


def user(*content: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


@pytest.mark.parametrize(
    "prompt",
    [
        "Is <image> or\n<image>\nolder?",
        [{"role": "user", "content": "Is <image> or\n<image>\nolder?"}],
        user(text("Is <image> or\n<image>\nolder?")),
    ],
)
def test_marks_in_plain_text_are_where_the_images_stand(prompt: object) -> None:
    found = record({"prompt": prompt, **ANSWERS, "images": ["red.png", "blue.jpg"]})
    parts = (Part(text="Is "), Part(image=0), Part(text=" or"), Part(image=1), Part(text="older?"))
    assert found.prompt == (Message("user", parts),)
    few = CONFIG.adapt({"prompt": prompt, **ANSWERS, "images": ["red.png"]})
    assert isinstance(few, Rejected)
    assert few.reason == "the number of <image> marks differs from the number of images"


def test_marks_of_prompts_that_answers_repeat() -> None:
    asked = {"role": "user", "content": "<image>What is it?"}
    row = {key: [asked, {"role": "assistant", "content": words}] for key, words in ANSWERS.items()}
    found = record({**row, "images": ["red.png"]})
    assert found.prompt[0].parts == (Part(image=0), Part(text="What is it?"))
    assert [response.text for response in found.responses] == ["a", "b"]


def test_a_mark_beside_image_parts_or_without_images_is_text() -> None:
    named = record({"prompt": user(IMAGE, text("What does <image> mean?")), **ANSWERS, "images": ["red.png"]})
    assert named.prompt[0].parts == (Part(image=0), Part(text="What does <image> mean?"))
    assert (
        record({"prompt": "What does <image> mean?", **ANSWERS}).prompt[0].text == "What does <image> mean?"
    )


def test_blanks_between_parts_stay() -> None:
    row = {
        "prompt": user(text(" Compare "), IMAGE, text(" with "), IMAGE, text("."), text(" \n")),
        "chosen": [{"role": "assistant", "content": [text("\nHello "), text(""), text("world "), text(" ")]}],
        "rejected": [{"role": "assistant", "content": [text(" "), text("No,"), text(" "), text("never")]}],
        "images": ["red.png", "blue.jpg"],
    }
    found = record(row)
    assert found.prompt[0].parts == (
        Part(text="Compare "),
        Part(image=0),
        Part(text=" with "),
        Part(image=1),
        Part(text="."),
    )
    assert [response.text for response in found.responses] == ["Hello world", "No, never"]
    for blank in ([text(" "), text("\n")], "  "):
        empty = CONFIG.adapt({**row, "chosen": [{"role": "assistant", "content": blank}]})
        assert isinstance(empty, Rejected)
        assert (empty.reason, empty.code) == ("a message of chosen is empty", "text-empty")


def test_messages_and_parts_as_objects_of_lists() -> None:
    row = {
        "prompt": {"role": ["user"], "content": [{"type": ["image", "text"], "text": [None, "What?"]}]},
        "chosen": {"role": ["assistant"], "content": ["a"]},
        "rejected": {"role": ["assistant"], "content": ["b"]},
        "images": ["red.png"],
    }
    found = record(row)
    assert found.prompt == (Message("user", (Part(image=0), Part(text="What?"))),)
    assert [response.text for response in found.responses] == ["a", "b"]
