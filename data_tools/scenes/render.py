"""Draws a scene as a PNG: shapes with smooth edges on a plain ground, the same bytes for the same scene."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from data_tools.scenes.structure import DIAMETER, Scene, SceneObject

PIXELS = 96
OVERSAMPLE = 4
RGB = {
    "red": (214, 40, 40),
    "green": (36, 150, 62),
    "blue": (30, 110, 230),
    "yellow": (250, 215, 30),
    "black": (20, 20, 20),
    "purple": (150, 60, 190),
}


def draw(scene: Scene, pixels: int = PIXELS) -> Image.Image:
    """The scene as an RGB image of `pixels` x `pixels`."""
    side = pixels * OVERSAMPLE
    image = Image.new("RGB", (side, side), (scene.ground,) * 3)
    pen = ImageDraw.Draw(image)
    for item in scene.objects:
        _draw_object(pen, item, side)
    return image.resize((pixels, pixels), Image.Resampling.BOX)


def _draw_object(pen: ImageDraw.ImageDraw, item: SceneObject, side: int) -> None:
    x, y, radius = item.x * side, item.y * side, DIAMETER[item.size] * side / 2
    fill = RGB[item.color]
    if item.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    elif item.shape == "square":
        half = radius * 0.9
        pen.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    elif item.shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
    else:
        arm = radius * 0.34
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)


def to_png(scene: Scene, pixels: int = PIXELS) -> bytes:
    """The scene as PNG bytes."""
    buffer = io.BytesIO()
    draw(scene, pixels).save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()
