"""People's own rows: what becomes of each form, which are refused, and how each is recognised."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sample_records import png
from text_fixtures import FIXTURES, good, read, why
from typer.testing import CliRunner

from data_tools.adapters import ADAPTERS
from data_tools.adapters.columns import ColumnsConfig
from data_tools.adapters.llamafactory import LlamaFactoryConfig
from data_tools.adapters.messages import MessagesConfig
from data_tools.adapters.recognise import recognise
from data_tools.adapters.rl_prompts import RlPromptsConfig
from data_tools.adapters.sharegpt import ShareGptConfig
from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.schema import Comparison, Message, Part, PreferenceRecord, Rating, Response
from data_tools.shard_writer import kind_of

TYPES = {str(adapter.model_fields["type"].default): adapter for adapter in ADAPTERS}
ASKED = "What colour is it?"
SHOWN = Message("user", (Part(image=0), Part(text=ASKED)))
USER, ANSWER = {"role": "user", "content": "Name a gas."}, {"role": "assistant", "content": "Neon."}


def adapted(kind: str, row: dict[str, Any], **settings: Any) -> Any:
    return TYPES[kind](name="x", path=FIXTURES / "rows.jsonl", **settings).adapt(row)


def prompt(record: PreferenceRecord) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in record.prompt]


# --- one test a form, by its fixture


def test_messages() -> None:
    rows = MessagesConfig(name="x", path=FIXTURES / "messages.jsonl").read(0)
    shown, talk, pair, judged, asked, tools, alone = rows
    assert good(shown).prompt == good(pair).prompt == good(asked).prompt == (SHOWN,)
    assert good(shown).responses == (Response("Red."),)
    first, last = talk  # a demonstration of each answer
    assert (first.id, last.id) == ("x-messages.jsonl:2#1", "x-messages.jsonl:2")
    assert prompt(first) == [("system", "Be brief."), ("user", "Name a gas.")]
    assert prompt(last) == [*prompt(first), ("assistant", "Neon."), ("user", "And a metal?")]
    assert (first.responses, last.responses) == ((Response("Neon."),), (Response("Iron."),))
    assert good(pair).responses == (Response("Red."), Response("Blue."))
    assert [(item.better, item.worse) for item in good(pair).comparisons] == [(0, 1)]
    assert [(rating.value, rating.kind) for rating in good(judged).ratings] == [(0.0, "binary")]
    assert (good(asked).responses, good(asked).reference) == ((), {"answer": "red"})
    assert [kind_of(good(item)) for item in (shown, pair, judged, asked)] == [
        "demonstration",
        "preference",
        "preference",
        "prompt",
    ]
    assert why(tools) == ("not-supported", "a message of messages holds tool_calls, which is not supported")
    assert why(alone) == ("field-wrong", "there is no prompt that ends with a user's turn")


def test_sharegpt() -> None:
    source = ShareGptConfig(name="x", path=FIXTURES / "sharegpt.json")
    (first, last), plain, twice, unanswered = source.read(0)
    assert first.prompt == (SHOWN,)
    assert prompt(last)[1:] == [("assistant", "Red."), ("user", "Is it blue?")]
    assert [record.responses[0].text for record in (first, last)] == ["Red.", "No."]
    assert [len(record.images) for record in (first, last)] == [1, 1]
    assert (good(plain).modality, kind_of(good(plain))) == ("text", "demonstration")
    assert why(twice) == ("field-wrong", "the number of <image> marks differs from the number of images")
    assert why(unanswered) == ("field-wrong", "conversations doesn't end with an answer")
    only = source.model_copy(update={"answers": "last"}).read(0)
    assert good(next(only)).responses == (Response("No."),)


def test_prompts_for_rl() -> None:
    easy, verl, trl, bare, wrong, nothing = read(RlPromptsConfig, "rl_prompts.jsonl")
    assert [good(item).reference for item in (easy, verl, trl, bare)] == [
        {"answer": "3"},
        {"answer": "3"},
        {"answer": "4"},
        {},
    ]
    for item in (easy, verl):
        assert good(item).prompt == (
            Message("user", (Part(image=0), Part(text="How many circles are there?"))),
        )
        assert kind_of(good(item)) == "prompt"
    assert good(verl).provenance == {
        "fields": {"data_source": "shapes", "ability": "count"},
        "extra_info": {"index": 0},
    }
    assert why(wrong)[1] == "answer is neither a text, a number, true, false, nor a list of these"
    assert why(nothing) == ("field-missing", "has none of the fields problem, prompt, question, query")


def test_llamafactory() -> None:
    source = LlamaFactoryConfig(name="x", path=FIXTURES / "llamafactory-more.jsonl")
    alpaca, openai, kto, (earlier, imitated), unmarked, same = source.read(0)
    for item in (alpaca, openai):
        assert prompt(good(item)) == [("user", "Name a gas.")]
        assert good(item).responses == (Response("Neon."), Response("Salt."))
        assert [(choice.better, choice.worse) for choice in good(item).comparisons] == [(0, 1)]
    assert good(kto).responses == (Response("Salt."),)
    assert [(rating.value, rating.kind) for rating in good(kto).ratings] == [(0.0, "binary")]
    assert earlier.responses == (Response("Iron."),)
    assert prompt(imitated) == [
        ("system", "Be brief."),
        ("user", "Name a metal."),
        ("assistant", "Iron."),
        ("user", "Name a gas.\nOne that glows."),
    ]
    assert (imitated.responses, kind_of(imitated)) == ((Response("Neon."),), "demonstration")
    assert good(unmarked).prompt == (SHOWN,)  # a picture without a mark stands before the text
    assert why(same) == ("same-answers", "chosen and rejected are the same answer")


def test_columns() -> None:
    settings = {"prompt": "ask", "image": ["front", "meta.side"], "chosen": "good", "rejected": "bad"}
    row = {
        "ask": ASKED,
        "front": "images/red.png",
        "meta": {"side": ["images/red.png"], "right": 3, "by": "me"},
        "good": "Red.",
        "bad": ["Blue.", "Grey."],
        "difficulty": 2,
    }
    found = good(adapted("columns", row, **settings, reference="meta.right", judge="gpt-4o"))
    assert found.prompt == (Message("user", (Part(image=0), Part(image=1), Part(text=ASKED))),)
    assert found.comparisons == tuple(Comparison("helpfulness", 0, worse, judge="gpt-4o") for worse in (1, 2))
    assert found.reference == {"answer": 3}
    assert found.provenance == {"fields": {"difficulty": 2, "meta.by": "me"}}
    missing = adapted("columns", row, **{**settings, "prompt": "question"})
    assert why(missing) == ("field-missing", "has no field question")
    beside = adapted("columns", row, **{**settings, "image": "front"}, reference="meta.right")
    assert why(beside)[0] == "media-unread"  # the picture in meta.side
    judged = good(adapted("columns", {"q": "a", "a": "b", "ok": 1}, prompt="q", response="a", label="ok"))
    assert judged.ratings == (
        Rating("helpfulness", 0, 1.0, 0.0, 1.0, judge=judged.ratings[0].judge, kind="binary"),
    )
    assert (
        kind_of(good(adapted("columns", {"q": "a", "a": "b"}, prompt="q", response="a"))) == "demonstration"
    )
    assert kind_of(good(adapted("columns", {"q": "a", "a": "b"}, prompt="q", reference="a"))) == "prompt"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "prompt"),
        ({"prompt": "q", "chosen": "a"}, "chosen and rejected go together"),
        ({"prompt": "q", "label": "a"}, "name the field of the response"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "response": "c"}, "name one or the other"),
        ({"prompt": "q", "response": "c", "judge": "me"}, "judge does nothing"),
        ({"prompt": "q", "response": "q"}, "'q' is named twice"),
    ],
)
def test_columns_that_do_not_fit_are_refused_at_the_start(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnsConfig(name="x", path=FIXTURES, **settings)


# --- the forms that a conversation has


PICTURE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64," + base64.b64encode(png()).decode()},
}


@pytest.mark.parametrize(
    "asked",
    [
        "Name a gas.",
        [USER],
        [{"from": "human", "value": "Name a gas."}],
        {"role": ["user"], "content": ["Name a gas."]},
        {"role": "user", "content": "Name a gas."},
        json.dumps([USER]),
        "\n\nHuman: Name a gas.\n\nAssistant:",
    ],
)
def test_a_prompt_in_each_form(asked: object) -> None:
    assert prompt(good(adapted("trl", {"prompt": asked, "chosen": [ANSWER], "rejected": "Salt."}))) == [
        ("user", "Name a gas.")
    ]


def test_transcripts_are_turns() -> None:
    talk = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: Name a gas.\n\nAssistant:"
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "Name a gas.")]
    split = good(adapted("trl", {"prompt": talk, "chosen": " Neon.", "rejected": " Salt."}))
    joined = good(adapted("trl", {"chosen": f"{talk} Neon.", "rejected": f"{talk} Salt."}))
    for record in (split, joined):
        assert prompt(record) == turns
        assert record.responses == (Response("Neon."), Response("Salt."))


def test_as_in_trl_a_text_beside_conversations_is_no_prompt() -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}, ANSWER, USER]
    row = {"chosen": [*talk, ANSWER], "rejected": [*talk, {"role": "assistant", "content": "Salt."}]}
    for text, kept in (("hi", {}), ("Name a gas.", {}), ("gases", {"fields": {"prompt": "gases"}})):
        record = good(adapted("trl", {**row, "prompt": text}))
        assert [role for role, _ in prompt(record)] == ["system", "user", "assistant", "user"]
        assert record.provenance == kept
    other = [{"role": "user", "content": "Name a metal."}, ANSWER]
    apart = adapted("trl", {"prompt": "gases", "chosen": [USER, ANSWER], "rejected": other})
    assert why(apart)[1] == "chosen and rejected don't share a prompt"


def test_plain_texts_begin_with_their_prompt_where_nothing_else_may_be_it() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    record = good(adapted("trl", row))
    assert (prompt(record), record.responses) == (
        [("user", "The sky is")],
        (Response("blue."), Response("black.")),
    )
    assert why(adapted("trl", {**row, "question": "Which?"}))[0] == "field-missing"
    assert why(adapted("trl", {"chosen": "Blue.", "rejected": "Black."}))[0] == "field-missing"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image", "image": "images/red.png"}, {"type": "text", "text": ASKED}],
        [PICTURE, {"type": "text", "text": ASKED}],
        [{"type": "image", "path": "images/red.png", "text": None}, {"type": "text", "text": ASKED}],
    ],
)
def test_pictures_that_messages_carry(content: list[dict[str, Any]]) -> None:
    row = {"messages": [{"role": "user", "content": content}, ANSWER]}
    assert good(adapted("messages", row)).prompt == (SHOWN,)
    beside = [{"role": "user", "content": ASKED, "images": ["images/red.png"]}, ANSWER]
    assert good(adapted("messages", {"messages": beside})).prompt == (SHOWN,)
    twice = good(
        adapted(
            "messages",
            {**row, "images": [PICTURE["image_url"]["url"] if content[0] is PICTURE else "images/red.png"]},
        )
    )
    assert (twice.prompt, len(twice.images)) == ((SHOWN,), 1)
    both = adapted("messages", {**row, "images": ["images/blue.jpg"]})
    assert why(both)[1] == "the pictures in the messages aren't those beside them; leave one of the two out"
    answer = {"role": "assistant", "content": content}
    assert why(adapted("messages", {"messages": [USER, answer]}))[1] == "an answer holds an image"
    for part in (
        {"type": "video", "video": "a.mp4"},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
    ):
        heard = adapted("messages", {"messages": [{"role": "user", "content": [part]}, ANSWER]})
        assert why(heard)[0] == "other-modality"
    clip = adapted("messages", {"messages": [{**USER, "video": "a.mp4"}, ANSWER]})
    assert why(clip) == (
        "other-modality",
        "a message of messages has a video in video, which isn't read; make it a part of its content",
    )


@pytest.mark.parametrize("key", ["images", "image", "image_paths", "image_path"])
@pytest.mark.parametrize(
    "value", ["images/red.png", ["images/red.png"], {"path": "images/red.png", "bytes": None}]
)
def test_fields_that_pictures_are_read_from(key: str, value: object) -> None:
    record = good(
        adapted("trl", {"prompt": ASKED, "chosen": "a", "rejected": "b", key: value, "images_": []})
    )
    assert record.prompt == (SHOWN,)


@pytest.mark.parametrize("label", [True, 1, 1.0, "true", "1", False, 0, "False"])
def test_yes_and_no(label: object) -> None:
    rows = {
        "trl": {"prompt": "q", "completion": "a", "label": label},
        "messages": {"messages": [USER, ANSWER], "label": label},
        "llamafactory": {"instruction": "q", "output": "a", "kto_tag": label},
    }
    for kind, row in rows.items():
        (rating,) = good(adapted(kind, row)).ratings
        assert rating.value == (label in (True, "true", "1")), kind
        for wrong in (2, "good", [1]):
            key = next(key for key in ("label", "kto_tag") if key in row)
            assert why(adapted(kind, {**row, key: wrong}))[0] == "no-preference"


def test_answers_that_are_not_to_be_learnt_are_no_demonstrations() -> None:
    talk = [USER, {**ANSWER, "weight": 0}, USER, ANSWER]
    assert good(adapted("messages", {"messages": talk})).responses == (Response("Neon."),)
    assert why(adapted("messages", {"messages": talk[:2]}))[0] == "field-missing"


# --- what is refused


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n", "chosen": "a"},
        {"prompt": "<s>[INST] What? [/INST]", "chosen": "a"},
        {"prompt": "USER: What? ASSISTANT:", "chosen": "a"},
        {"prompt": "A chat.\n\nUSER: What?\nASSISTANT:", "chosen": "a"},
        {"prompt": "### Human: What?\n### Assistant:", "chosen": "a"},
        {"prompt": "Below is a task.\n\n### Instruction:\nSay.\n\n### Response:", "chosen": "a"},
        {"prompt": "<start_of_turn>user\nWhat?<end_of_turn>", "chosen": "a"},
        {"prompt": "<|begin_of_text|>What?", "chosen": "a"},
        {"prompt": "What?", "chosen": "Red.</s>"},
        {"prompt": "What?", "chosen": "Red.<|eot_id|>\n"},
        {"prompt": "What?", "chosen": [{"role": "assistant", "content": "Red.<|im_end|>"}]},
        {"prompt": [{"role": "user", "content": "[INST] What? [/INST]"}], "chosen": "a"},
    ],
)
def test_rows_under_a_chat_template(row: dict[str, Any]) -> None:
    code, reason = why(adapted("trl", {"rejected": "b", **row}))
    assert code == "field-wrong"
    assert "is under a chat template already: it begins or ends with" in reason
    conversation = {"messages": [{"role": "user", "content": row["prompt"]}, ANSWER]}
    if isinstance(row["prompt"], str) and row["prompt"] != "What?":
        assert "under a chat template" in why(adapted("messages", conversation))[1]


@pytest.mark.parametrize(
    "text",
    [
        "What does <|im_start|> mean?",
        "Explain [INST] and [/INST] in prompts.",
        "Is <s>this</s>",
        "The user: who is the assistant",
        "### Heading\ntext",
    ],
)
def test_words_about_templates_are_words(text: str) -> None:
    assert prompt(good(adapted("trl", {"prompt": text, "chosen": text, "rejected": "b"}))) == [("user", text)]


def test_a_models_own_picture_token_is_refused_beside_a_picture() -> None:
    row = {"prompt": "<|vision_start|><|image_pad|><|vision_end|>What?", "chosen": "a", "rejected": "b"}
    assert "write <image> there" in why(adapted("trl", {**row, "images": ["images/red.png"]}))[1]
    assert prompt(good(adapted("trl", row)))[0][1] == row["prompt"]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, {**ANSWER, "tool_calls": [{"id": 1}]}], "holds tool_calls"),
        ([USER, {**ANSWER, "function_call": {"name": "f"}}], "holds function_call"),
        ([USER, {**ANSWER, "reasoning_content": "Hm."}], "holds reasoning_content"),
        ([USER, {"role": "tool", "content": "3"}, ANSWER], "is a tool's"),
        ([{"from": "human", "value": "q"}, {"from": "function_call", "value": "{}"}], "is a tool's"),
    ],
)
def test_tools_are_refused(messages: list[dict[str, Any]], reason: str) -> None:
    code, said = why(adapted("messages", {"messages": messages}))
    assert (code, reason in said) == ("not-supported", True)
    assert why(adapted("messages", {"messages": [USER, ANSWER], "tools": "[{}]"}))[0] == "not-supported"


# --- which format it is


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("sharegpt", {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "q"}]}),
        ("messages", {"messages": [USER, ANSWER], "images": ["a.png"]}),
        ("messages", {"messages": [USER, ANSWER], "rejected_response": "Salt.", "images": ["a.png"]}),
        ("messages", {"images": ["a.png"], "messages": [USER], "solution": "red"}),
        ("trl", {"prompt": [USER], "completion": [ANSWER], "images": ["a.png"]}),
        ("trl", {"prompt": "q", "completion": "a", "label": 1}),
        ("trl", {"prompt": "q", "chosen": "a", "rejected": "b", "image": "a.png"}),
        ("rl_prompts", {"problem": "q", "answer": "a", "images": ["a.png"]}),
        ("rl_prompts", {"data_source": "x", "prompt": [USER], "reward_model": {"ground_truth": "3"}}),
        ("rl_prompts", {"prompt": [USER]}),
        ("llamafactory", {"messages": [USER], "chosen": ANSWER, "rejected": {**ANSWER, "content": "b"}}),
        ("llamafactory", {"conversations": [{"from": "human", "value": "q"}], "kto_tag": True}),
        ("llamafactory", {"instruction": "q", "input": "", "output": "a"}),
        ("llamafactory", {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}),
    ],
)
def test_auto_knows_each_form(tmp_path: Path, kind: str, row: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    assert recognise(path).name == kind


def test_rows_of_other_fields_are_told_how_to_name_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"q": "a", "chosen": "b", "rejected": "c"}))
    with pytest.raises(UserError, match=r"Formats that fit: none\. .*--from columns --set prompt=FIELD"):
        recognise(path)  # and no word of hh_rlhf, whose rows are transcripts


def test_columns_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    row = {"question": ASKED, "img": "a.png", "good": "Red.", "bad": "Blue."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    fields = {"prompt": "question", "image": "img", "chosen": "good", "rejected": "bad"}
    settings = [part for key, value in fields.items() for part in ("--set", f"{key}={value}")]
    arguments = [
        "convert",
        "--from",
        "columns",
        str(tmp_path / "rows.jsonl"),
        "-o",
        str(tmp_path / "d"),
        *settings,
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    assert "train/preference/image-text: 1" in done.output


def test_each_record_of_a_row_is_its_own() -> None:
    records: list[PreferenceRecord] = list(adapted("messages", {"messages": [USER, ANSWER] * 3}))
    assert len({record.id for record in records}) == 3
