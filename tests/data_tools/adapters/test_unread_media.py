"""What of a row is looked through for unread pictures: all that its adapter didn't ask for, at every depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sample_records import png

from data_tools.adapters import ADAPTERS
from data_tools.adapters.media import unread_media, without_fields
from data_tools.adapters.provenance import plain
from data_tools.adapters.structs import structs
from data_tools.adapters.watched import Watched, unwatched
from data_tools.source import Rejected

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
TYPES = {str(adapter.model_fields["type"].default): adapter for adapter in ADAPTERS}
ASKED, ANSWER = {"role": "user", "content": "What?"}, {"role": "assistant", "content": "Red."}
PAIR = {"prompt": "What?", "chosen": "Red.", "rejected": "Blue."}
ARGILLA: dict[str, Any] = {
    "fields": {"prompt": "q", "response_1": "a", "response_2": "b"},
    "responses": {"preference": [{"user_id": "u", "value": "response_1", "status": "submitted"}]},
    "suggestions": {},
}
LABEL_STUDIO: dict[str, Any] = {
    "data": {"prompt": "q", "answer1": "a", "answer2": "b"},
    "annotations": [
        {
            "completed_by": 1,
            "result": [
                {
                    "type": "pairwise",
                    "from_name": "p",
                    "to_name": "answer1,answer2",
                    "value": {"selected": "left"},
                }
            ],
        }
    ],
}
ARENA: dict[str, Any] = {
    "conversation_a": [ASKED, ANSWER],
    "conversation_b": [ASKED, {**ANSWER, "content": "Blue."}],
    "model_a": "m",
    "model_b": "n",
    "winner": "model_a",
}
VERL: dict[str, Any] = {"prompt": [ASKED], "reward_model": {"style": "rule", "ground_truth": "3"}}


def adapted(kind: str, row: dict[str, Any], **settings: Any) -> Any:
    """The records of a row, or its code and reason."""
    source = TYPES[kind](name="x", path=FIXTURES / "images" / "x.jsonl", **settings)
    before = repr(row)
    found = source.adapt(row)
    assert repr(row) == before  # a row is looked at, and stays what it was
    return (found.code, found.reason) if isinstance(found, Rejected) else found


@pytest.mark.parametrize(
    ("kind", "row", "code", "field"),
    [
        ("argilla", {**ARGILLA, "fields": {**ARGILLA["fields"], "photo": "red.png"}}, 0, "fields.photo"),
        ("argilla", {**ARGILLA, "fields": {**ARGILLA["fields"], "image2": "red.png"}}, 0, "fields.image2"),
        ("argilla", {**ARGILLA, "fields": {**ARGILLA["fields"], "scan": "scans/1.png"}}, 0, "fields.scan"),
        ("argilla", {**ARGILLA, "metadata": {"imagePath": "red.png"}}, 0, "metadata.imagePath"),
        ("label_studio", {**LABEL_STUDIO, "data": {**LABEL_STUDIO["data"], "photo": "a"}}, 0, "data.photo"),
        (
            "label_studio",
            {**LABEL_STUDIO, "data": {**LABEL_STUDIO["data"], "images": ["a"]}},
            0,
            "data.images",
        ),
        ("label_studio", {**LABEL_STUDIO, "data": {**LABEL_STUDIO["data"], "video": "a"}}, 1, "data.video"),
        (
            "label_studio",
            {**LABEL_STUDIO, "data": {**LABEL_STUDIO["data"], "voice": "a.wav"}},
            1,
            "data.voice",
        ),
        (
            "arena",
            {**ARENA, "conversation_a": [{**ASKED, "images": ["red.png"]}, ANSWER]},
            2,
            "conversation_a.images",
        ),
        ("rl_prompts", {**VERL, "extra_info": {"image": "red.png", "index": 1}}, 0, "extra_info.image"),
        (
            "rl_prompts",
            {**VERL, "extra_info": {"input": {"camera-images": ["r"]}}},
            0,
            "extra_info.input.camera-images",
        ),
        (
            "rl_prompts",
            {**VERL, "reward_model": {"ground_truth": "3", "pic": "red.png"}},
            0,
            "reward_model.pic",
        ),
        (
            "messages",
            {"messages": [{**ASKED, "meta": {"photo": "red.png"}}, ANSWER]},
            0,
            "messages.meta.photo",
        ),
        (
            "trl",
            {
                **PAIR,
                "prompt": [{"role": "user", "content": [{"type": "text", "text": "q", "image": "red.png"}]}],
            },
            2,
            "prompt.content.image",
        ),
        (
            "trl",  # as `datasets` hands lists of messages out
            {
                **PAIR,
                "prompt": {
                    "role": ["user"],
                    "content": [[{"type": "text", "text": "q", "image": "red.png"}]],
                },
            },
            2,
            "prompt.content.image",
        ),
        (
            "arena",
            {
                **ARENA,
                "conversation_a": {
                    "role": ["user", "assistant"],
                    "content": ["What?", "Red."],
                    "image": ["a", None],
                },
            },
            2,
            "conversation_a.image",
        ),
    ],
)
def test_media_in_what_is_read_only_in_part(kind: str, row: dict[str, Any], code: int, field: str) -> None:
    """Its adapter reads something else of the same object. The reader of messages refuses what is in them by itself."""
    found = adapted(kind, row)
    assert found[0] == ("media-unread", "other-modality", "not-supported")[code], found
    assert code == 2 or f"in its field {field}," in found[1]
    assert isinstance(adapted(kind, row, ignore_fields=[field]), tuple)


def test_what_a_message_shows_is_read() -> None:
    picture = {"bytes": png(), "path": "red.png"}
    for part in (
        {"type": "image", "image": picture, "text": None},
        {"type": "image", "image": "red.png", "file_name": "red.png", "size": [3, 4]},
        {"type": "image_url", "image_url": {"url": "red.png", "detail": "auto"}},
    ):
        content = [part, {"type": "text", "text": "q", "image": None}]
        listed = [{"role": "user", "content": content}, ANSWER]
        for messages in (listed, [listed]):
            (record,) = adapted("messages", {"messages": messages, "id": "7"})
            assert len(record.images) == 1
    columns = {"role": ["user", "assistant"], "content": ["q", "a"], "images": [[picture], None]}
    (record,) = adapted("messages", {"messages": columns})
    assert len(record.images) == 1


def test_what_to_do_can_be_done() -> None:
    """A field in an object can be named in `columns`, one in each of a list of objects can't."""
    inside = adapted("trl", {**PAIR, "meta": {"photo": "red.png"}})
    assert "convert with --from columns --set image=meta.photo" in inside[1]
    row = {**PAIR, "meta": {"photo": "red.png"}}
    names = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    (record,) = adapted("columns", row, image="meta.photo", **names)
    assert len(record.images) == 1
    without = adapted("columns", row, **names)
    assert "(it reads no pictures): name it with the setting image" in without[1]
    answers = [{"answer": "a", "rank": 1, "images": ["red.png"]}, {"answer": "b", "rank": 2}]
    listed = adapted("nectar", {"prompt": "Human: q\n\nAssistant:", "answers": answers})
    assert (
        "answers.images, which nectar doesn't read (it reads no pictures): move it to a field of the row"
        in listed[1]
    )
    own = adapted("argilla", {**ARGILLA, "fields": {**ARGILLA["fields"], "photo": "red.png"}})
    assert "(it reads image): name it with the setting image, or name it in ignore_fields" in own[1]


def test_ignored_fields_are_as_if_the_rows_had_them_not() -> None:
    (record,) = adapted("trl", {**PAIR, "images": ["red.png"], "note": "n"}, ignore_fields=["images", "note"])
    assert (record.images, record.provenance) == ((), {})
    (record,) = adapted(
        "argilla", {**ARGILLA, "metadata": {"image": "red.png", "n": 3}}, ignore_fields=["metadata.image"]
    )
    assert record.provenance["about"] == {"metadata": {"n": 3}}
    turns = [{**ASKED, "images": ["red.png"]}, ANSWER]
    (record,) = adapted("messages", {"messages": turns}, ignore_fields=["messages.images"])
    assert record.images == ()
    (record,) = adapted("trl", {**PAIR, "meta.image": "red.png"}, ignore_fields=["meta.image"])
    assert record.provenance == {}
    needed = {"question": "q", "chosen": "a", "rejected": "b", "image": "red.png"}
    assert adapted("rlaif_v", needed, ignore_fields=["image"]) == (
        "field-missing",
        "has no field image (ignore_fields leaves image out)",
    )
    marked = {**PAIR, "prompt": "<image> What?", "images": ["red.png"]}
    assert adapted(
        "messages",
        {"messages": [{**ASKED, "content": "<image>"}, ANSWER], "image": "red.png"},
        ignore_fields=["image"],
    ) == (
        "field-wrong",
        "the number of <image> marks differs from the number of images (ignore_fields leaves image out)",
    )
    assert isinstance(adapted("trl", marked, ignore_fields=["images"]), tuple)  # trl's marks may be words


def test_fields_are_left_out_by_their_names() -> None:
    row = {"a": 1, "b": {"c": 2, "d": [{"e": 3, "f": 4}, {"f": 5}]}, "g.h": 6}
    for names, kept, left in (
        (["a"], {"b": row["b"], "g.h": 6}, ["a"]),
        (["b.c", "x"], {"a": 1, "b": {"d": [{"e": 3, "f": 4}, {"f": 5}]}, "g.h": 6}, ["b.c"]),
        (["b.d.e", "g.h"], {"a": 1, "b": {"c": 2, "d": [{"f": 4}, {"f": 5}]}}, ["b.d.e", "g.h"]),
    ):
        assert without_fields(row, names) == (kept, left)
    assert without_fields(row, ["x", "b.x", "a.x"])[0] is row


def test_taking_a_row_apart_asks_for_all_of_it() -> None:
    row = {"a": 1, "b": {"c": 2}}
    for take in (
        lambda row: {**row},
        dict,
        lambda row: row.items(),
        lambda row: row.values(),
        lambda row: row.copy(),
    ):
        watched = Watched(row)
        take(watched)  # type: ignore[operator]
        assert watched.asked == {"a", "b"}
    watched = Watched(row)
    assert "a" in watched
    assert list(watched) == ["a", "b"]
    assert watched.asked == set()


def test_what_is_handed_out_notes_what_is_asked_of_it() -> None:
    row = {"a": {"b": [{"c": 1, "image": "x"}, 2], "image": "y"}, "d": [[{"e": 3}]]}
    watched = Watched(row)
    assert watched["a"] is watched.get("a")
    assert watched["a"]["b"][0]["c"] == 1
    assert watched["a"].asked == {"b"}
    assert [item.asked for item in watched["a"]["b"] if isinstance(item, Watched)] == [{"c"}]
    assert watched["d"][0][0].pop("e") == 3
    watched["a"] = {"f": 4}
    assert watched["a"] == {"f": 4}
    kept = plain(Watched(row)["a"])
    assert type(kept) is dict
    assert type(kept["b"][0]) is dict
    assert unwatched(Watched(row)) == row
    looked = Watched(row)
    plain(looked["a"])  # that it is kept in the provenance doesn't mean that its fields are read
    assert looked["a"].asked == set()


def test_media_inside_what_is_read() -> None:
    def first(row: dict[str, Any], *asked: str, inside: str = "") -> Any:
        watched = Watched(row)
        for key in asked:
            value = watched[key]
            for item in value if inside and isinstance(value, list) else []:
                item.get(inside)
        found = unread_media(watched)
        return found and (found.name, found.medium)

    row = {"turns": [{"value": "x", "image": "a.png"}, {"value": "a.png"}], "image": [{"path": "a.png"}]}
    assert first(row, "turns", "image") == ("turns.image", "picture")
    assert first(row, "turns", "image", inside="value") == ("turns.image", "picture")
    assert first({"turns": [{"value": "a.png"}]}, "turns") is None  # taken as it is
    assert first({"turns": [{"value": "a.png"}]}, "turns", inside="value") is None
    assert first({"turns": [{"value": "a.png"}]}, "turns", inside="role") == ("turns.value", "picture")
    assert first({"turns": [{"value": "a.png"}]}) == ("turns.value", "picture")
    many = {"turns": [{"value": "x"}] * 100 + [{"value": "y", "images": ["a.png"]}]}
    assert first(many, "turns", inside="value") == ("turns.images", "picture")
    both = {
        "meta": {"image": "a.png", "clip": "a.mp4"},
        "scan": {"bytes": png(), "path": "1"},
        "pages": [{"path": "a.jpg"}],
    }
    for ignored, left in (
        ((), ("meta.image", "picture")),
        (("meta.image",), ("meta.clip", "video")),
        (("meta",), ("scan", "picture")),
        (("meta", "scan"), ("pages", "picture")),
        (("meta", "scan", "pages"), None),
    ):
        assert first(without_fields(both, ignored)[0]) == left


def test_objects_of_lists_are_watched_row_by_row() -> None:
    watched = Watched(
        {"turns": {"role": ["user", "user"], "more": {"text": ["a", "b"], "image": [None, "b.png"]}}}
    )
    rows = structs(watched["turns"], "turns")
    assert rows == [
        {"role": "user", "more": {"text": "a", "image": None}},
        {"role": "user", "more": {"text": "b", "image": "b.png"}},
    ]
    for row in rows:
        assert row["more"]["text"]
    found = unread_media(watched)
    assert found is not None
    assert (found.name, found.listed) == ("turns.more.image", True)
