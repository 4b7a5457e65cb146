"""Small records and images for the tests of the data tools."""

from __future__ import annotations

import io

from PIL import Image

from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, assistant, user


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    found = image.getpixel((x, y))
    assert isinstance(found, tuple)
    return found


def png(color: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (4, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def text_record(number: int, **changes: object) -> PreferenceRecord:
    fields: dict[str, object] = {
        "id": f"t{number}",
        "source": "words",
        "prompt": (user(f"question {number}"), assistant("what?"), user("again")),
        "responses": (Response("good"), Response("bad", model="m")),
        "comparisons": (Comparison("helpfulness", better=0, worse=1, margin=1.5),),
    }
    return PreferenceRecord(**{**fields, **changes})  # type: ignore[arg-type]


def image_record(number: int, **changes: object) -> PreferenceRecord:
    fields: dict[str, object] = {
        "id": f"i{number}",
        "source": "pictures",
        "prompt": (user(0, "and", 1, "differ?"),),
        "responses": (Response("yes"), Response("no")),
        "images": (
            ImageRef.of_bytes(png((number % 256, 0, 0))),
            ImageRef.of_bytes(png((0, number % 256, 0))),
        ),
        "comparisons": (Comparison("factuality", better=1, worse=0),),
        "scenes": ({"a": 1}, {"b": [2, "\u00e9"]}),
        "reference": {"answer": "no"},
        "provenance": {"flip": f"f{number // 2}"},
    }
    return PreferenceRecord(**{**fields, **changes})  # type: ignore[arg-type]
