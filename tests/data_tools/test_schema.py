from __future__ import annotations

import pytest
from sample_records import image_record, text_record

from data_tools.schema import ImageRef, Response, SchemaError, content_hash, user


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
