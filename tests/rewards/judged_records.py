"""Records that objectives judge, with and without pictures."""

from __future__ import annotations

from typing import Any

from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import ImageRef, PreferenceRecord, user

SCENE = Scene(
    (SceneObject("circle", "red", "small", 0.2, 0.2), SceneObject("square", "blue", "large", 0.8, 0.8))
)


def png(color: str) -> bytes:
    return to_png(Scene((SceneObject("circle", color, "large", 0.5, 0.5),)))


def text(name: str = "t0", asked: str = "What is 2 + 2?", **more: Any) -> PreferenceRecord:
    return PreferenceRecord(name, "test", (user(asked),), **more)


def picture(
    name: str = "i0", *colors: str, asked: str = "Describe the picture.", **more: Any
) -> PreferenceRecord:
    """A record with a picture of a circle for each colour."""
    images = tuple(ImageRef.of_bytes(png(color)) for color in colors or ("red",))
    return PreferenceRecord(name, "test", (user(*range(len(images)), asked),), images=images, **more)
