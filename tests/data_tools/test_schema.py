from __future__ import annotations

import json

import pytest
from sample_records import image_record, text_record

from data_tools.schema import (
    Comparison,
    ImageRef,
    Ranking,
    Rating,
    Response,
    SchemaError,
    content_hash,
    from_json,
    to_json,
    user,
)


def test_images_stand_in_the_order_of_their_numbers() -> None:
    image_record(0, prompt=(user("first", 0, "second", 1),))
    with pytest.raises(
        SchemaError, match=r"record i0 of pictures: the prompt shows images \[1, 0\]; number them"
    ):
        image_record(0, prompt=(user("first", 1, "second", 0),))
    with pytest.raises(SchemaError, match=r"\[1, 0\]; number them"):
        image_record(0, prompt=(user(1), user(0)))
    with pytest.raises(SchemaError, match=r"images \[0, 0\], but there are 2; each must stand once"):
        image_record(0, prompt=(user(0, 0),))


def test_content_hash_is_of_the_content() -> None:
    one = image_record(7)
    assert content_hash(one) == content_hash(image_record(7, id="other", source="else", comparisons=()))
    paths = tuple(
        ImageRef(path=f"{name}.png", sha256=image.sha256)
        for name, image in zip("ab", one.images, strict=True)
    )
    assert content_hash(image_record(7, images=paths)) == content_hash(one)
    assert content_hash(text_record(1)) != content_hash(text_record(2))
    turned = text_record(1, responses=(Response("bad"), Response("good")), comparisons=())
    assert content_hash(turned) == content_hash(text_record(1))
    other = text_record(1, responses=(Response("bad"), Response("fair")), comparisons=())
    assert content_hash(other) != content_hash(text_record(1))


RANKED = {"responses": tuple(map(Response, "abcd")), "comparisons": ()}


def test_what_a_ranking_says_of_every_two() -> None:
    ranking = Ranking("h", ((2,), (0, 3)), judge="ann")
    assert list(ranking.comparisons()) == [
        Comparison("h", 2, 0, judge="ann"),
        Comparison("h", 2, 3, judge="ann"),
        Comparison("h", 0, 3, tie=True, judge="ann"),
    ]


def test_labels_come_back_from_json() -> None:
    record = text_record(
        0,
        **RANKED,
        rankings=(Ranking("h", ((2,), (0, 3)), judge="ann"),),
        ratings=(Rating("safety", 1, value=0, low=0, high=1, kind="binary"), Rating("h", 0, 3, 1, 5)),
    )
    row = json.loads(json.dumps(to_json(record)))
    assert row["rankings"] == [{"objective": "h", "order": [[2], [0, 3]], "judge": "ann"}]
    assert from_json(row) == record
    # a file of a version that knew neither rankings nor kinds of ratings
    del row["rankings"], row["ratings"][0]["kind"]
    older = from_json(row)
    assert older.rankings == ()
    assert older.ratings[0].kind == "scalar"
    with pytest.raises(SchemaError, match="record t0: not in the form"):
        from_json({**row, "rankings": [{"objective": "h", "order": [1, 2]}]})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"rankings": (Ranking("h", ((0,), (4,))),)}, r"a h ranking names a response that is not there \(4"),
        ({"rankings": (Ranking("h", ((0,), (1, 0))),)}, "a h ranking names a response twice"),
        ({"rankings": (Ranking("h", ((0,),)),)}, "a h ranking needs two responses or more"),
        ({"rankings": (Ranking("h", ((0,), (), (1,))),)}, "and one in each place"),
        ({"rankings": (Ranking("h", ()),)}, "a h ranking needs two responses or more"),
        (
            {"ratings": (Rating("h", 0, 2, 1, 5, kind="binary"),)},
            "a binary h rating is 2, not one of 1 and 5",
        ),
        (
            {"ratings": (Rating("h", 0, 1, 1, 1, kind="binary"),)},
            "a binary h rating is 1, not one of 1 and 1",
        ),
        (
            {"ratings": (Rating("h", 0, 1, 0, float("inf")),)},
            "a h rating has a scale from 0 to inf; both must be finite",
        ),
        ({"ratings": (Rating("h", 0, 1, float("-inf"), 5),)}, "a h rating has a scale from -inf to 5; both"),
        ({"ratings": (Rating("h", 0, 1, float("nan"), 5),)}, "a h rating has a scale from nan to 5; both"),
        # whose width no float holds
        ({"ratings": (Rating("h", 0, 1, -1e308, 1e308),)}, r"scale from -1e\+308 to 1e\+308; both"),
        ({"ratings": (Rating("h", 0, 1, 5, 1),)}, "a h rating of 1 is outside 5 to 1"),
        ({"ratings": (Rating("h", 0, 1, 1, 5, kind="odd"),)}, "a h rating of kind 'odd' is none of scalar, "),
        ({"comparisons": (Comparison("h", 0, 1, margin=-1.0),)}, r"margin -1\.0; it must be 0 or more"),
        ({"comparisons": (Comparison("h", 0, 1, margin=float("nan")),)}, "margin nan; it must be 0 or more"),
    ],
)
def test_labels_that_make_no_sense(labels: dict[str, object], message: str) -> None:
    with pytest.raises(SchemaError, match=f"record t0 of words: .*{message}"):
        text_record(0, **{**RANKED, **labels})


def test_a_group_of_ties_has_a_limit() -> None:
    many = {"responses": tuple(Response(f"{i}") for i in range(14)), "comparisons": ()}
    text_record(0, **many, rankings=(Ranking("h", (tuple(range(12)), (12, 13))),))
    with pytest.raises(SchemaError, match="a h ranking ties more than 12 responses"):
        text_record(0, **many, rankings=(Ranking("h", (tuple(range(13)), (13,))),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 5}, "id, source and split are 5, 'words' and 'train'"),
        ({"split": 3}, "id, source and split are 't0', 'words' and 3"),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "Part.text is 7"),
        ({"responses": [{"text": "a"}, {"text": None}]}, "Response.text is None"),
        ({"responses": [{"text": "a"}, {"text": 5}]}, "Response.text is 5"),
        ({"responses": [{"text": "a", "model": ["m"]}, {"text": "b"}]}, r"Response.model is \['m'\]"),
        ({"comparisons": [{"objective": "h", "better": 0.0, "worse": 1}]}, r"Comparison.better is 0\.0"),
        ({"comparisons": [{"objective": "h", "better": False, "worse": 1}]}, "Comparison.better is False"),
        ({"comparisons": [{"objective": None, "better": 0, "worse": 1}]}, "Comparison.objective is None"),
        (
            {"comparisons": [{"objective": "h", "better": 0, "worse": 1, "tie": "no"}]},
            "Comparison.tie is 'no'",
        ),
        ({"votes": [{"objective": "h", "better": 0, "worse": 1, "judge": 2}]}, "Comparison.judge is 2"),
        (
            {"ratings": [{"objective": "h", "response": 0, "value": True, "low": 0, "high": 1}]},
            "Rating.value is",
        ),
        (
            {"rankings": [{"objective": "h", "order": [[0], [True]]}]},
            "the order of a ranking holds what is no",
        ),
        ({"critiques": [{"text": "x", "response": 0.0}]}, r"Critique.response is 0\.0"),
        ({"corrections": [{"objective": 1, "corrected": 0, "original": 1}]}, "Correction.objective is 1"),
    ],
)
def test_values_of_the_wrong_type_are_refused(change: dict[str, object], message: str) -> None:
    row = json.loads(json.dumps(to_json(text_record(0))))
    assert from_json(row) == text_record(0)
    with pytest.raises(SchemaError, match=rf"record \w+: a value of the wrong type: {message}"):
        from_json({**row, **change})


def test_numbers_may_be_whole_or_not_and_what_is_optional_null() -> None:
    row = json.loads(json.dumps(to_json(text_record(0))))
    row["comparisons"] = [
        {"objective": "h", "better": 0, "worse": 1, "margin": margin} for margin in (None, 2, 0.5)
    ]
    row["ratings"] = [{"objective": "h", "response": 0, "value": 1, "low": 0.0, "high": 1}]
    row["critiques"] = [{"text": "x", "response": None}]
    assert [comparison.margin for comparison in from_json(row).comparisons] == [None, 2, 0.5]


def test_notes_scenes_and_paths_have_their_types_too() -> None:
    record = image_record(0)
    row = json.loads(json.dumps(to_json(record)))
    held = tuple(image.data or b"" for image in record.images)
    assert from_json(row, held) == record
    for images, scenes, message in (
        (
            [{**image, "notes": [1]} for image in row["images"]],
            row["scenes"],
            "a note on an image is no text",
        ),
        (row["images"], [1, 2], "a scene is no object"),
    ):
        with pytest.raises(SchemaError, match=message):
            from_json({**row, "images": images, "scenes": scenes}, held)
    with pytest.raises(SchemaError, match=r"ImageRef\.path is 7"):
        from_json({**row, "images": [{"path": 7}, {"path": "b.png"}]})
