"""Pairs of answers about pictures: MMPR, POVID, align-anything; and two models' conversations: arenas."""

from __future__ import annotations

from text_fixtures import FIXTURES, good, read, why

from data_tools.adapters.align_anything import AlignAnythingConfig
from data_tools.adapters.arena import ArenaConfig
from data_tools.adapters.mmpr import MmprConfig
from data_tools.adapters.povid import PovidConfig
from data_tools.schema import Comparison, Message, Part, Response

MARKS = ("field-wrong", "the number of <image> marks differs from the number of images")


def test_mmpr_rows_with_one_image_several_or_none() -> None:
    rows = read(MmprConfig, "mmpr.jsonl")
    one, two, text, blank = (good(row) for row in rows[:4])
    assert one.prompt == (Message("user", (Part(image=0), Part(text="How many stops are there?"))),)
    assert one.images[0].path == str(FIXTURES / "images" / "red.png")
    assert one.responses == (Response("There is one, so the answer is 1."), Response("Answer: 2"))
    assert one.comparisons == (Comparison("factuality", 0, 1, judge="construction"),)
    # the right answer is what an oracle may judge a free answer by
    assert (one.reference, one.provenance) == ({"answer": "1"}, {"fields": {"id": 4}})
    assert [part.image for part in two.prompt[0].parts] == [0, 1, None]
    assert (two.reference, two.provenance["answer_gt"]) == ({}, ["the first"])
    assert (text.modality, text.prompt[0].text) == ("text", "What is 1 + 0?")
    assert (blank.modality, blank.reference) == ("text", {})
    assert [why(row) for row in rows[4:]] == [
        MARKS,  # it shows an image that isn't there
        ("same-answers", "chosen and rejected are the same answer"),
        ("field-missing", "has no field question"),
    ]


def test_povid_rows() -> None:
    rows = read(PovidConfig, "povid.jsonl")
    record = good(rows[0])
    assert record.prompt == (Message("user", (Part(image=0), Part(text="Describe it."))),)
    assert record.responses == (Response("A red sign."), Response("A red sign and a dog."))
    assert record.comparisons == (Comparison("factuality", 0, 1, judge="construction"),)
    assert record.provenance == {"id": "COCO_1"}
    assert [why(row) for row in rows[1:]] == [
        ("same-answers", "chosen and rejected are the same answer"),
        ("field-wrong", "conversations and rejected_conversations don't share a prompt"),
        ("field-missing", "has no field image"),
        ("field-wrong", "conversations holds no message"),
        ("field-missing", "has no field rejected_conversations"),
    ]


def test_align_anything_rows() -> None:
    rows = read(AlignAnythingConfig, "align_anything.jsonl", judge="gpt-4o")
    assert good(rows[0]).comparisons == (Comparison("helpfulness", 0, 1, judge="gpt-4o"),)
    assert good(rows[0]).provenance == {"fields": {"task": "color"}}
    assert good(rows[1]).comparisons == (Comparison("helpfulness", 1, 0, judge="gpt-4o"),)
    assert [why(row) for row in rows[2:]] == [
        ("no-preference", "overall_response is neither 1 nor 2"),
        ("same-answers", "response_1 and response_2 are the same answer"),
        ("image-missing", "has no image"),
        ("field-missing", "has no field overall_response"),
    ]


def test_arena_rows() -> None:
    rows = read(ArenaConfig, "arena.jsonl")
    seen, bad, tie, both_bad, turns = (good(row) for row in rows[:5])
    assert seen.prompt == (Message("user", (Part(image=0), Part(text="What is it?"))),)
    assert seen.responses == (Response("A stop sign.", "m-a"), Response("A red sign.", "m-b"))
    assert seen.comparisons == (Comparison("helpfulness", 1, 0),)
    assert seen.provenance == {
        "question_id": "q1",
        "winner": "model_b",
        "judge": "user_1",
        "num_turns": 1,
        "language": "English",
    }
    # a text is a text, also where it names the mark of an image
    assert bad.prompt == (Message("user", (Part(text="Say <image>."),)),)
    for record, winner in ((bad, "both_bad"), (tie, "tie"), (both_bad, "tie (bothbad)")):
        assert record.comparisons == (Comparison("helpfulness", 0, 1, tie=True),)
        assert record.provenance["winner"] == winner
    assert bad.provenance["category_tag"] == {"math": False}
    assert bad.provenance["fields"] == {"evaluation_session_id": "s1", "is_code": False}
    assert [(message.role, message.text) for message in turns.prompt] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "More"),
    ]
    assert turns.comparisons == (Comparison("helpfulness", 0, 1),)


def test_arena_rows_that_are_no_record() -> None:
    rows = read(ArenaConfig, "arena.jsonl")
    both = "conversation_a and conversation_b"
    assert [why(row) for row in rows[5:]] == [
        ("two-prompts", f"{both} differ in an earlier turn, so the last answers are to two prompts"),
        ("no-preference", "winner is none of model_a, model_b, tie, tie (bothbad), both_bad"),
        ("same-answers", f"the answers of {both} are the same"),
        ("field-wrong", f"{both} don't share a prompt"),
        ("not-supported", "a message of conversation_a carries more than text, which is not read"),
        ("field-missing", "has no field conversation_a"),
        ("field-wrong", "conversation_a holds no message"),
    ]
