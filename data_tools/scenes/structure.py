"""Scenes: what a picture shows, exactly, so that what is said of it can be checked exactly.

A scene is 1 to 5 objects, each with a shape, a color, a size and a place. Coordinates are fractions of the
image's width and height, the origin at the top left. NLVR's `structured_rep` is read into the same structure
(`nlvr.py`).
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = ("red", "green", "blue", "yellow", "black", "purple")
SIZES = ("small", "large")
ALL_SIZES = ("small", "medium", "large")  # NLVR has three
COLUMNS, ROWS = ("left", "", "right"), ("top", "", "bottom")
PLACES = tuple(" ".join(filter(None, (row, column))) or "center" for row in ROWS for column in COLUMNS)
MAX_OBJECTS = 5

DIAMETER = {"small": 0.17, "medium": 0.23, "large": 0.29}
JITTER = 0.025  # how far a generated object may lie from the middle of its ninth of the picture
APART = 0.12  # two centers nearer than this along an axis are neither left of nor above each other


@dataclass(frozen=True)
class SceneObject:
    """One object; `x`, `y` is its center and `diameter` its extent, as fractions of the image's sides."""

    shape: str
    color: str
    size: str
    x: float
    y: float

    @property
    def place(self) -> str:
        """The ninth of the picture that the center lies in, such as "top left", "center" or "right"."""
        column = min(int(self.x * 3), 2)
        row = min(int(self.y * 3), 2)
        return PLACES[3 * row + column]


@dataclass(frozen=True)
class Scene:
    """The objects of one picture, and the shade of its ground (0 black to 255 white)."""

    objects: tuple[SceneObject, ...]
    ground: int = 224

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `PreferenceRecord.scenes`."""
        return {"ground": self.ground, "objects": [vars(item) for item in self.objects]}

    @staticmethod
    def from_json(row: dict[str, Any]) -> Scene:
        """Reads what `to_json` wrote; raises KeyError or TypeError on anything else."""
        return Scene(tuple(SceneObject(**item) for item in row["objects"]), row["ground"])


def place_center(place: str) -> tuple[float, float]:
    """The middle of a ninth of the picture."""
    row, column = divmod(PLACES.index(place), 3)
    return (column + 0.5) / 3, (row + 0.5) / 3


def random_object(rng: random.Random, place: str) -> SceneObject:
    """An object of any look, near the middle of `place`."""
    x, y = place_center(place)
    return SceneObject(
        shape=rng.choice(SHAPES),
        color=rng.choice(COLORS),
        size=rng.choice(SIZES),
        x=round(x + rng.uniform(-JITTER, JITTER), 4),
        y=round(y + rng.uniform(-JITTER, JITTER), 4),
    )


def random_scene(rng: random.Random, low: int = 1, high: int = MAX_OBJECTS) -> Scene:
    """A scene of `low` to `high` objects, each in its own ninth of the picture, in reading order.

    Looks are drawn with some repetition (a third of the objects copy an earlier color or shape), so that
    counts and comparisons are not trivial.
    """
    places = sorted(rng.sample(PLACES, rng.randint(low, high)), key=PLACES.index)
    objects: list[SceneObject] = []
    for place in places:
        item = random_object(rng, place)
        if objects and rng.random() < 1 / 3:
            other = rng.choice(objects)
            item = (
                dataclasses.replace(item, color=other.color)
                if rng.random() < 0.5
                else dataclasses.replace(item, shape=other.shape)
            )
        objects.append(item)
    return Scene(tuple(objects), rng.randint(205, 240))


def replace_object(scene: Scene, index: int, item: SceneObject | None) -> Scene:
    """The scene with object `index` replaced, or removed where `item` is None."""
    objects = list(scene.objects)
    objects[index : index + 1] = [item] if item else []
    return dataclasses.replace(scene, objects=tuple(objects))
