"""What every reader of messages sees: calls of tools, turns of the system, answers not to be learnt, pictures."""

from __future__ import annotations

from typing import Any

import pytest
from row_forms import adapted, assistant, prompt, user
from text_fixtures import good, why

from data_tools.schema import Message, Part, Response

Q, A, B = user("Q?"), assistant("a"), assistant("b")
IMAGE = {"type": "image", "image": {"bytes": None, "path": "images/red.png"}}
WORDS = {"type": "text", "text": "Q?"}
SHOWN = Message("user", (Part(image=0), Part(text="Q?")))


def test_conversations_that_carry_pictures_share_them() -> None:
    asked = {"role": "user", "content": [IMAGE, WORDS]}
    record = good(adapted("trl", {"chosen": [asked, A], "rejected": [asked, B]}))
    assert (record.prompt, len(record.images)) == ((SHOWN,), 1)
    assert record.responses == (Response("a"), Response("b"))


@pytest.mark.parametrize(
    "key", ["tool_calls", "function_call", "tool_call_id", "reasoning_content", "thinking"]
)
def test_what_no_record_holds_is_refused_by_each_reader_of_messages(key: str) -> None:
    called = assistant("a", **{key: [{"id": 1}]})
    talk = {"from": "gpt", "value": "a", key: [{"id": 1}]}
    for kind, row in (
        ("messages", {"messages": [Q, called]}),
        ("trl", {"chosen": [Q, called], "rejected": [Q, B]}),
        ("tulu3", {"prompt": "Q?", "chosen": [Q, called], "rejected": [Q, B]}),
        ("skywork_reward", {"chosen": [Q, called], "rejected": [Q, B]}),
        ("povid", {"conversations": [{"from": "human", "value": "Q?"}, talk], "rejected_conversations": []}),
        ("helpsteer3", {"context": [{**Q, key: [{"id": 1}]}], "response1": "a", "response2": "b"}),
        ("arena", {"conversation_a": [Q, called], "conversation_b": [Q, B], "winner": "model_a"}),
    ):
        code, reason = why(adapted(kind, row))
        assert (code, reason.endswith(f"holds {key}, which is not supported")) == ("not-supported", True), (
            kind
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("tools", '[{"name": "search"}]'),
        ("functions", [{"name": "search"}]),
        ("objects", {"ref": ["dog"], "bbox": [[0, 0, 9, 9]]}),
        ("objects", {"count": 3}),
        ("tool_calls", [{"id": 1}]),
    ],
)
def test_tools_and_boxes_beside_the_conversation_are_refused_in_every_form(key: str, value: object) -> None:
    rows: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
        ("messages", {"messages": [Q, A]}, {}),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "a"}]},
            {},
        ),
        ("trl", {"prompt": "Q?", "chosen": "a", "rejected": "b"}, {}),
        ("llamafactory", {"instruction": "Q?", "output": "a"}, {}),
        ("rl_prompts", {"prompt": "Q?"}, {}),
        ("columns", {"q": "Q?", "a": "a"}, {"prompt": "q", "response": "a"}),
    )
    for kind, row, settings in rows:
        assert why(adapted(kind, {**row, key: value}, **settings)) == (
            "not-supported",
            f"has {key}, which are not supported; name it in ignore_fields to leave it out",
        )
        good(adapted(kind, {**row, key: value}, **settings, ignore_fields=[key]))
        for nothing in (None, "", "[]", [], {}, {"ref": None, "bbox": []}):
            assert good(adapted(kind, {**row, key: nothing}, **settings)).provenance == {}
    words = good(adapted("trl", {"prompt": "Q?", "chosen": "a", "rejected": "b", "objects": "a dog"}))
    assert words.provenance == {"fields": {"objects": "a dog"}}


def test_tools_inside_the_object_that_a_prompt_is_in_are_refused() -> None:
    asked = {"messages": [Q], "tools": [], "parallel_tool_calls": True}
    row = {"input": asked, "preferred_output": [A], "non_preferred_output": [B]}
    settings = {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"}
    assert good(adapted("columns", row, **settings)).responses == (Response("a"), Response("b"))
    row["input"] = {**asked, "tools": [{"type": "function"}]}
    assert why(adapted("columns", row, **settings)) == (
        "not-supported",
        "has input.tools, which are not supported; name it in ignore_fields to leave it out",
    )


def test_a_system_field_beside_the_conversation_is_its_first_turn() -> None:
    talk = [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "a"}]
    other = [talk[0], {"from": "gpt", "value": "b"}]
    ask = "\n\nHuman: Q?\n\nAssistant: "
    for kind, row in (
        ("trl", {"prompt": "Q?", "chosen": "a", "rejected": "b"}),
        ("trl", {"chosen": [Q, A], "rejected": [Q, B]}),
        ("trl", {"chosen": f"{ask}a", "rejected": f"{ask}b"}),
        ("trl", {"prompt": "Q?", "completion": "a"}),
        ("messages", {"messages": [Q, A], "rejected_messages": [B]}),
        ("messages", {"messages": [Q, A], "rejected_messages": [Q, B]}),
        ("hh_rlhf", {"chosen": f"{ask}a", "rejected": f"{ask}b"}),
        ("tulu3", {"prompt": "Q?", "chosen": [Q, A], "rejected": [Q, B]}),
        ("skywork_reward", {"chosen": [Q, A], "rejected": [Q, B]}),
        ("povid", {"image": "images/red.png", "conversations": talk, "rejected_conversations": other}),
        (
            "llava_rlhf",
            {"conversations": talk, "output_1": {"value": "a"}, "output_2": {"value": "b"}, "preference": 1},
        ),
    ):
        record = good(adapted(kind, {**row, "system": "Be brief."}))
        assert prompt(record) == [("system", "Be brief."), ("user", "Q?")], kind
        assert "fields" not in record.provenance
        assert prompt(good(adapted(kind, {**row, "system": " "}))) == [("user", "Q?")]
        assert why(adapted(kind, {**row, "system": 7})) == ("field-wrong", "system is no text")


def test_a_system_field_that_the_conversation_repeats_is_one_turn() -> None:
    says = {"role": "system", "content": "Be brief."}
    row = {"messages": [says, Q, A]}
    assert prompt(good(adapted("messages", {**row, "system": "Be brief."})))[0] == ("system", "Be brief.")
    assert why(adapted("messages", {**row, "system": "Be kind."})) == (
        "field-wrong",
        "the field system differs from the conversation's own turn of the system",
    )


@pytest.mark.parametrize("content", ["", " ", None, [], [{"type": "text", "text": ""}]])
def test_an_empty_turn_of_the_system_is_left_out(content: object) -> None:
    says = {"role": "system", "content": content}
    for kind, row in (
        ("messages", {"messages": [says, Q, A]}),
        ("trl", {"prompt": [says, Q], "chosen": [A], "rejected": [B]}),
        ("tulu3", {"prompt": "Q?", "chosen": [says, Q, A], "rejected": [says, Q, B]}),
    ):
        assert prompt(good(adapted(kind, row))) == [("user", "Q?")]
    assert why(adapted("messages", {"messages": [{**says, "role": "user"}, A]}))[0] in (
        "text-empty",
        "field-wrong",
    )


@pytest.mark.parametrize(
    "mark",
    [{"loss": 0}, {"loss": False}, {"loss": "false"}, {"weight": 0.0}, {"loss_scale": 0}, {"train": False}],
)
def test_an_answer_marked_as_not_to_be_learnt_is_no_demonstration(mark: dict[str, Any]) -> None:
    off = {**assistant("a"), **mark}
    assert why(adapted("messages", {"messages": [Q, off]}))[0] == "field-missing"
    assert good(adapted("messages", {"messages": [Q, off, Q, B]})).responses == (Response("b"),)
    turn = {"from": "gpt", "value": "a", **mark}
    assert why(adapted("sharegpt", {"conversations": [{"from": "human", "value": "Q?"}, turn]}))[0] == (
        "field-missing"
    )
    reason = "has no answer to learn from: {} says so by its weight, loss or train"
    for kind, row, field, settings in (
        ("trl", {"prompt": [Q], "completion": [off]}, "completion", {}),
        ("columns", {"q": [Q], "a": [off]}, "a", {"prompt": "q", "response": "a"}),
    ):
        assert why(adapted(kind, row, **settings)) == ("field-missing", reason.format(field))
    assert good(adapted("trl", {"prompt": [Q], "completion": [off], "label": True})).ratings[0].value == 1.0


@pytest.mark.parametrize(
    ("content", "carried"),
    [
        ([IMAGE, WORDS], {}),
        ([{"type": "image"}, WORDS], {}),
        ([{"type": "image"}, WORDS], {"images": ["images/red.png"]}),
        ("<image>Q?", {"images": ["images/red.png"]}),
    ],
)
def test_pictures_of_parts_may_be_listed_beside_the_conversation_too(
    content: object, carried: dict[str, Any]
) -> None:
    row = {"messages": [{"role": "user", "content": content, **carried}, A], "images": ["images/red.png"]}
    record = good(adapted("messages", row))
    assert (record.prompt, len(record.images)) == ((SHOWN,), 1)


def test_pictures_in_parts_and_beside_them_that_differ_are_refused() -> None:
    two = [{**IMAGE, "image": "images/red.png"}, {**IMAGE, "image": "images/blue.jpg"}, WORDS]
    row = {"messages": [{"role": "user", "content": two}, A]}
    assert (
        len(good(adapted("messages", {**row, "images": ["images/red.png", "images/blue.jpg"]})).images) == 2
    )
    for images in (["images/blue.jpg", "images/red.png"], ["images/red.png"]):
        assert why(adapted("messages", {**row, "images": images})) == (
            "field-wrong",
            "the pictures in the messages aren't those beside them; leave one of the two out",
        )


def test_conversations_that_differ_in_an_earlier_turn_are_two_prompts() -> None:
    talks = {"chosen": [Q, A, user("R?"), A], "rejected": [Q, B, user("R?"), B]}
    text = "\n\nHuman: Q?\n\nAssistant: {0}\n\nHuman: R?\n\nAssistant: {0}"
    texts = {"chosen": text.format("a"), "rejected": text.format("b")}
    for kind, row, names in (
        ("trl", talks, "chosen and rejected"),
        ("trl", {"prompt": "Q?", **talks}, "chosen and rejected"),
        (
            "trl",
            {"prompt": [Q], "chosen": talks["chosen"][1:], "rejected": talks["rejected"][1:]},
            "chosen and rejected",
        ),
        ("trl", texts, "chosen and rejected"),
        ("hh_rlhf", texts, "chosen and rejected"),
        ("tulu3", {"prompt": "Q?", **talks}, "chosen and rejected"),
        (
            "messages",
            {"messages": talks["chosen"], "rejected_messages": talks["rejected"]},
            "messages and rejected_messages",
        ),
    ):
        reason = f"{names} differ in an earlier turn, so the last answers are to two prompts"
        assert why(adapted(kind, row)) == ("two-prompts", reason), row


def test_conversations_about_different_questions_are_malformed() -> None:
    other = [user("R?"), B]
    for kind, row, names in (
        ("trl", {"chosen": [Q, A], "rejected": other}, "chosen and rejected"),
        ("messages", {"messages": [Q, A], "rejected_messages": other}, "messages and rejected_messages"),
        ("skywork_reward", {"chosen": [Q, A], "rejected": other}, "chosen and rejected"),
    ):
        assert why(adapted(kind, row)) == ("field-wrong", f"{names} don't share a prompt")


def test_turns_that_both_answers_add_to_a_prompt_belong_to_it() -> None:
    row = {"prompt": [Q], "chosen": [A, user("R?"), A], "rejected": [A, user("R?"), B]}
    assert prompt(good(adapted("trl", row))) == [("user", "Q?"), ("assistant", "a"), ("user", "R?")]
