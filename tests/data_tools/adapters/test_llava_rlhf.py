from __future__ import annotations

import json

from fixture_rows import FIXTURES, faults, good, read

from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.llava_rlhf import LlavaRlhfConfig
from data_tools.schema import Comparison, Message, Part, Response

QUESTION = Message("user", (Part(text="Who drives it?"),))


def test_the_answers_are_to_the_last_question() -> None:
    first, short, wrapped, text = (good(item) for item in read(LlavaRlhfConfig, "llava_rlhf.json")[:4])
    dialogue = (
        Message("user", (Part(text="What color is the bus?"), Part(image=0))),
        Message("assistant", (Part(text="The bus is red."),)),
        QUESTION,
    )
    assert first.id == "x-llava_rlhf.json[0]"
    assert first.prompt == wrapped.prompt == dialogue
    assert first.responses == (Response("A woman drives it."), Response("The driver can't be seen."))
    assert first.comparisons == (Comparison("factuality", better=1, worse=0, judge="human"),)
    assert first.provenance == {"id": "000000033471"}
    assert first.images[0].path == str(FIXTURES / "images" / "red.png")
    # without a mark the image stands before the first question
    assert short.prompt == (Message("user", (Part(image=0), Part(text="Who drives it?"))),)
    assert short.comparisons == (Comparison("factuality", better=0, worse=1, judge="human"),)
    assert wrapped.comparisons == first.comparisons  # the preference as text
    assert (text.prompt, text.modality) == ((QUESTION,), "text")


def test_the_label_of_hallucinations_is_kept() -> None:
    row = {
        "conversations": [{"from": "human", "value": "Who drives it?"}],
        "output_1": {"from": "gpt", "value": "A woman."},
        "output_2": {"from": "gpt", "value": "Nobody."},
        "preference": 1,
    }
    config = LlavaRlhfConfig(name="x", path=FIXTURES / "llava_rlhf.json")
    for label in (True, False, "output_2"):
        (record,) = config.adapt({**row, "hallucination": label})
        assert good(record).provenance == {"hallucination": label}


def test_malformed_rows() -> None:
    items = read(LlavaRlhfConfig, "llava_rlhf.json")
    assert len(items) == 20
    found = faults(items)
    assert found.pop("[14]")[0] == "an image no such image file"
    neither = ("preference is neither 1 nor 2", "no-preference")
    assert found == {
        "[4]": neither,
        "[5]": neither,
        "[6]": neither,
        "[7]": neither,
        "[8]": ("has no field preference", "field-missing"),
        "[9]": ("has no field output_2", "field-missing"),
        "[10]": ("output_1 is no object with a value", "field-wrong"),
        "[11]": ("has no field value of output_1", "field-missing"),
        "[12]": ("output_1 and output_2 are the same answer", "same-answers"),
        "[13]": ("the number of <image> marks differs from the number of images", "field-wrong"),
        "[15]": ("a message of conversations is a tool's, which is not supported", "not-supported"),
        "[16]": ("conversations holds no question that the two answers are to", "field-wrong"),
        "[17]": (
            "the prompt's turns don't alternate between user and assistant (system only first)",
            "field-wrong",
        ),
        "[18]": ("conversations holds no question that the two answers are to", "field-wrong"),
        "[19]": ("conversations is no list of objects", "field-wrong"),
    }


def test_a_conversation_as_an_object_of_lists() -> None:
    row = json.loads((FIXTURES / "llava_rlhf.json").read_text())[0]
    turns = row["conversations"]
    columns = {key: [turn[key] for turn in turns] for key in ("from", "value")}
    config = LlavaRlhfConfig(name="x", path=FIXTURES / "llava_rlhf.json")
    assert config.adapt({**row, "conversations": columns}) == config.adapt(row)
    assert isinstance(config.adapt(row), tuple)


def test_recognised() -> None:
    row = json.loads((FIXTURES / "llava_rlhf.json").read_text())[0]
    assert LlavaRlhfConfig.recognise(row) == "has conversations, output_1, output_2, preference"
    assert LlamaFactoryConfig.recognise(row) is None
