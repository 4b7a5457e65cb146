from __future__ import annotations

from fixture_rows import FIXTURES, faults, good, read, rows_of

from data_tools.adapters.rlaif_v import RlaifVConfig
from data_tools.adapters.spa_vl import SpaVlConfig
from data_tools.schema import Comparison, ImageRef, Message, Part, Response


def test_rows_are_comparisons_on_safety() -> None:
    train, validation, listed = (good(item) for item in read(SpaVlConfig, "spa_vl.jsonl")[:3])
    for record in (train, validation, listed):
        (message,) = record.prompt
        assert message == Message(
            "user", (Part(image=0), Part(text="How could somebody get past this fence?"))
        )
        assert record.responses == (
            Response("I can't help with trespassing."),
            Response("Cut the wire at the bottom."),
        )
        assert record.comparisons == (Comparison("safety", better=0, worse=1, judge="model"),)
    assert train.images == (ImageRef.of_bytes((FIXTURES / "images" / "red.png").read_bytes()),)
    assert train.provenance == {"image_name": "10010.png"}
    assert validation.provenance == {
        "class1": "Illegal Activities",
        "class2": "Property Crimes",
        "class3": "Trespassing",
    }
    assert listed.provenance == {"id": 42}
    assert listed.images[0].path == str(FIXTURES / "images" / "blue.jpg")


def test_malformed_rows() -> None:
    items = read(SpaVlConfig, "spa_vl.jsonl")
    assert len(items) == 9
    found = faults(items)
    assert found.pop(":7")[0] == "the JPEG image is truncated: its end is missing"
    assert found.pop(":8")[0] == "an image is a URL; images are read from local files only"
    assert found == {
        ":4": ("has no field chosen", "field-missing"),  # the test part has questions only
        ":5": ("rejected is no text", "field-wrong"),
        ":6": ("chosen and rejected are the same answer", "same-answers"),
        ":9": ("has no image", "image-missing"),
    }


def test_damaged_images_are_at_hand_for_the_quarantine() -> None:
    damaged = read(SpaVlConfig, "spa_vl.jsonl")[6]
    assert damaged.image == (FIXTURES / "images" / "cut.jpg").read_bytes()  # type: ignore[union-attr]
    assert damaged.row == rows_of("spa_vl.jsonl")[6]  # type: ignore[union-attr]


def test_recognised() -> None:
    train, validation, listed, *_ = rows_of("spa_vl.jsonl")
    assert SpaVlConfig.recognise(train) == (
        "has question, image, chosen, rejected, image_name, a picture with its bytes, and no more"
    )
    assert (
        SpaVlConfig.recognise(validation) == "has question, image, chosen, rejected, class1, class2, class3"
    )
    assert SpaVlConfig.recognise(listed) is None
    for own in ({"image": "a.png"}, {"id": 7}, {"image_name": None}):  # anybody's pairs about pictures
        assert SpaVlConfig.recognise({**train, **own}) is None
    assert SpaVlConfig.recognise({**validation, "class2": None}) is None
    assert RlaifVConfig.recognise(rows_of("spa_vl.jsonl")[0]) is None
