"""NLVR's `structured_rep` as a scene: three boxes of 100 x 100 in a strip of 400 x 100, on a ground of grey.

`x_loc`, `y_loc` is the top left corner of an object, in pixels of its box, and `size` its side (10, 20 or
30).
"""

from __future__ import annotations

import itertools
from typing import Any

from data_tools.scenes.structure import Scene, SceneObject

WIDTH, HEIGHT = 400, 100
OFFSETS = (0, 150, 300)
GROUND = 211
SHAPES = {"circle": "circle", "square": "square", "triangle": "triangle"}
COLORS = {"Yellow": "yellow", "Black": "black", "#0099ff": "blue"}
SIZES = {10: "small", 20: "medium", 30: "large"}
PERMUTATIONS = tuple(itertools.permutations(range(3)))  # image k shows the boxes in this order


def scene_from_nlvr(structured_rep: Any, permutation: int = 0) -> Scene:
    """The scene of image `permutation` (0 to 5) of a row.

    Raises:
        ValueError: anything but three lists of objects of known type, color and size that lie in their box.
    """
    if not isinstance(structured_rep, list) or len(structured_rep) != len(OFFSETS):
        raise ValueError("structured_rep is no list of three boxes")
    objects = []
    for offset, box in zip(OFFSETS, PERMUTATIONS[permutation], strict=True):
        items = structured_rep[box]
        if not isinstance(items, list):
            raise ValueError("a box of structured_rep is no list")
        objects += [_object(item, offset) for item in items]
    return Scene(tuple(objects), GROUND)


def _object(item: Any, offset: int) -> SceneObject:
    try:
        size, x, y = item["size"], item["x_loc"], item["y_loc"]
        shape, color, word = SHAPES[item["type"]], COLORS[item["color"]], SIZES[size]
    except (KeyError, TypeError, IndexError):
        raise ValueError("an object of structured_rep lacks a known type, color, size or place") from None
    if not all(isinstance(value, int | float) and -1 <= value <= 101 - size for value in (x, y)):
        raise ValueError("an object of structured_rep lies outside its box")
    return SceneObject(shape, color, word, (offset + x + size / 2) / WIDTH, (y + size / 2) / HEIGHT)
