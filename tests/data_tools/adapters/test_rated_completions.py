"""VLFeedback and UltraFeedback: rated completions."""

from __future__ import annotations

from pathlib import Path

from text_fixtures import good, read, scores, why

from data_tools.adapters.ultrafeedback import UltraFeedbackConfig
from data_tools.adapters.vlfeedback import VlFeedbackConfig
from data_tools.images import read_image
from data_tools.schema import Message, Part, Response
from data_tools.source import Read

UMBRELLA_NOTES = [
    {"response": 2, "aspect": "Ethical Considerations", "value": "N/A", "why": "not a number"},
    {"response": 3, "aspect": "Visual Faithfulness", "value": "five", "why": "not a number"},
]


def test_vlfeedback_row() -> None:
    record = good(read(VlFeedbackConfig, "vlfeedback.jsonl")[0])
    assert (record.id, record.source) == ("x-vlfeedback.jsonl:1", "x")
    question = Part(text="What is the man on the left holding?")
    assert record.prompt == (Message("user", (Part(image=0), question)),)
    assert read_image(record.images[0]).getpixel((0, 0)) == (180, 40, 30)
    assert record.responses == (
        Response("He holds a red umbrella.", "llava-v1.5-13b"),
        Response("A red umbrella.", "qwen-vl-chat"),
        Response("The man walks with his dog.", "minigpt-4"),
        Response("An open red umbrella, in his right hand.", "gpt-4v"),
    )
    # what is no number is left out: 10 ratings of 12; the two answers with equal ratings are not compared
    assert scores(record) == {
        (0, "helpfulness"): 4.0,
        (0, "safety"): 5.0,
        (0, "factuality"): 4.0,
        (1, "helpfulness"): 4.0,
        (1, "safety"): 5.0,
        (1, "factuality"): 4.0,
        (2, "helpfulness"): 1.0,
        (2, "factuality"): 1.0,
        (3, "helpfulness"): 5.0,
        (3, "safety"): 5.0,
    }
    assert {(item.low, item.high, item.judge, item.kind) for item in record.ratings} == {
        (1.0, 5.0, "gpt-4v", "scalar")
    }
    assert (record.comparisons, record.rankings, record.votes) == ((), (), ())
    assert len(record.critiques) == 12
    third = record.critiques[2]
    assert (third.response, third.objective, third.judge) == (0, "factuality", "gpt-4v")
    assert third.text == "The umbrella is there.\n\nRating: 2\n\nThe colour is not certain."
    assert record.provenance == {
        "id": "svit-1",
        "img_path": "VLFeedback_images/svit-1.png",
        "models": ["llava-v1.5-13b", "qwen-vl-chat", "minigpt-4", "gpt-4v"],
        "unread": UMBRELLA_NOTES,
    }


def test_vlfeedback_as_an_object_of_lists() -> None:
    record = good(read(VlFeedbackConfig, "vlfeedback.jsonl")[1])
    assert record.prompt == (Message("user", (Part(image=0), Part(text="Is the door open?"))),)
    assert record.responses == (
        Response("No.", "llava-v1.5-7b"),
        Response("Yes, it is wide open.", "instructblip-vicuna-7b"),
    )
    assert scores(record) == {
        (0, "helpfulness"): 3.0,
        (0, "safety"): 5.0,
        (0, "factuality"): 5.0,
        (1, "helpfulness"): 2.0,
        (1, "safety"): 5.0,
        (1, "factuality"): 1.0,
    }
    assert [item.text for item in record.critiques if item.response == 1] == [
        "Wrong.",
        "No ethical concern.",
        "The door is shut.",
    ]


def test_vlfeedback_completion_without_an_answer() -> None:
    record = good(read(VlFeedbackConfig, "vlfeedback.jsonl")[2])
    assert record.responses == (Response("It is grey.", "llava-v1.5-7b"),)
    assert scores(record) == {(0, "helpfulness"): 3.0, (0, "safety"): 5.0, (0, "factuality"): 3.0}
    assert {item.response for item in record.critiques} == {0}
    assert record.provenance["left_out"] == [{"completion": 1, "why": "response is empty"}]


def test_vlfeedback_rows_that_are_no_record() -> None:
    rows = read(VlFeedbackConfig, "vlfeedback.jsonl")
    assert [why(item) for item in rows[3:6]] == [
        ("field-wrong", "the lists annotations and model of completions differ in length"),
        ("no-preference", "no response has a rating that can be read"),
        ("field-missing", "has no field img_path, nor image"),
    ]
    assert why(rows[6])[1] == "an image no such image file"
    assert len(rows) == 7


def test_vlfeedback_mirror() -> None:
    (row,) = read(VlFeedbackConfig, "vlfeedback-mirror.jsonl")
    original = good(read(VlFeedbackConfig, "vlfeedback.jsonl")[0])
    record = good(row)
    assert read_image(record.images[0]).getpixel((0, 0)) == (180, 40, 30)
    assert (record.responses, record.ratings) == (original.responses, original.ratings)
    assert record.provenance == {"id": "svit-1", "unread": UMBRELLA_NOTES}


def test_ultrafeedback_row() -> None:
    record = good(read(UltraFeedbackConfig, "ultrafeedback.jsonl")[0])
    assert record.id == "x-ultrafeedback.jsonl:1"
    assert record.prompt == (Message("user", (Part(text="Name a use of graphite."),)),)
    assert record.images == ()
    assert record.responses == (
        Response("Pencils.", "alpaca-7b"),
        Response("In pencils: its layers slide off onto the paper.", "gpt-4"),
    )
    assert scores(record) == {
        (0, "instruction_following"): 5.0,
        (0, "honesty"): 4.0,
        (0, "factuality"): 5.0,
        (0, "helpfulness"): 3.0,
        (0, "overall_score"): 7.5,
        (1, "instruction_following"): 5.0,
        (1, "factuality"): 5.0,
        (1, "helpfulness"): 5.0,
        (1, "overall_score"): 10.0,
    }
    assert {(item.objective, item.low, item.high, item.judge) for item in record.ratings} == {
        ("instruction_following", 1.0, 5.0, "gpt-4"),
        ("honesty", 1.0, 5.0, "gpt-4"),
        ("factuality", 1.0, 5.0, "gpt-4"),
        ("helpfulness", 1.0, 5.0, "gpt-4"),
        ("overall_score", 1.0, 10.0, "gpt-4"),
    }
    assert [(item.objective, item.text) for item in record.critiques if item.response == 0] == [
        ("instruction_following", "It names one."),
        ("honesty", "Sure of itself."),
        ("factuality", "Nothing is false."),
        ("factuality", "It is all right."),
        ("helpfulness", "Clear."),
        ("helpfulness", "Little is said."),
        ("", "Right, but bare.\n\nOverall Score: 3"),
    ]
    assert record.provenance == {
        "source": "evol_instruct",
        "models": ["alpaca-7b", "gpt-4"],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
        "completions": [
            {
                "principle": "honesty",
                "custom_system_prompt": "As an AI assistant, say so when you are not sure of something.",
                "fine-grained_score": 4.25,
            },
            {
                "principle": "helpfulness",
                "custom_system_prompt": "Be helpful.",
                "fine-grained_score": 5.0,
            },
        ],
        "unread": [{"response": 1, "aspect": "honesty", "value": "N/A", "why": "not a number"}],
        "annotations": [
            {"response": response, "aspect": aspect, "Type": kinds}
            for response in (0, 1)
            for aspect, kinds in (("truthfulness", ["None"]), ("helpfulness", ["1", "3"]))
        ],
    }


def test_ultrafeedback_as_an_object_of_lists_with_equal_answers() -> None:
    record = good(read(UltraFeedbackConfig, "ultrafeedback.jsonl")[1])
    assert record.responses == (Response("Yes.", "bard"), Response("Yes.", "ultralm-13b"))
    assert [rating.value for rating in record.ratings] == [4.0] * 8
    assert (record.comparisons, record.critiques) == ((), ())
    assert record.provenance["unread"] == [
        {"response": 0, "aspect": "overall_score", "value": 85.0, "why": "not from 1 to 10"},
        {"response": 1, "aspect": "overall_score", "why": "there is none"},
    ]


def test_ultrafeedback_rows_that_are_no_record() -> None:
    assert [why(item) for item in read(UltraFeedbackConfig, "ultrafeedback.jsonl")[2:]] == [
        ("no-preference", "completions is empty"),
        ("field-missing", "has no field instruction"),
    ]


def test_completions_in_odd_forms() -> None:
    config = UltraFeedbackConfig(name="x", path=Path("x.jsonl"))
    rated = {"annotations": {"honesty": {"Rating": 2}}}

    def adapt(*completions: object, **fields: object) -> Read:
        return config.adapt({"instruction": "q", "completions": list(completions), **fields})

    # who wrote it stands in the row alone; a response that is no text is left out like an empty one
    record = good(adapt({"response": 3}, {"response": "b", **rated}, models=["m", "n"]))
    assert record.responses == (Response("b", "n"),)
    assert record.provenance["left_out"] == [{"completion": 0, "why": "response is no text"}]
    # an aspect that the format doesn't have is not lost
    strange = {"response": "b", "annotations": {"honesty": {"Rating": 2}, "style": {"Rating": "3"}}}
    note = {"aspect": "style", "value": {"Rating": "3"}, "why": "not an aspect of this format"}
    assert {"response": 0, **note} in good(adapt(strange)).provenance["unread"]
    for completions, expected in (
        (({"response": ""}, {"response": None}), ("text-empty", "the response of every completion is empty")),
        (
            ({"response": "b", "annotations": "N/A"},),
            ("no-preference", "no response has a rating that can be read"),
        ),
        (
            ({"response": "\ud800", **rated},),
            ("text-damaged", "response holds half a character (a lone surrogate)"),
        ),
        ((3,), ("field-wrong", "completions is no list of objects")),
    ):
        assert why(adapt(*completions)) == expected
    assert why(config.adapt({"instruction": "q"})) == ("field-missing", "has no field completions")
