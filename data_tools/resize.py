"""Smaller images in a data set, where its config asks for them; otherwise the bytes stay what they were."""

from __future__ import annotations

import io
import math
from dataclasses import replace

from PIL import Image
from pydantic import Field

from data_tools.config import Config
from data_tools.image_files import read_bytes
from data_tools.image_limits import STANDARD, ImageLimits
from data_tools.images import LARGE, Checked, check_image, decode_image, image_size
from data_tools.schema import ImageRef, PreferenceRecord


class ImageSettings(Config):
    """What is done to images that go into shards: their metadata are taken out, and very large ones made smaller."""

    max_side: int | None = Field(
        default=None,
        ge=16,
        description="Make larger images so many pixels long at their longer side; null keeps them as they are.",
    )
    quality: int = Field(
        default=90, ge=1, le=100, description="Of JPEG and lossy WebP images that are made smaller."
    )
    max_pixels: int = Field(
        default=STANDARD.max_pixels,
        ge=1,
        description="Refuse images of more pixels (width x height). JPEG photos are taken up to 256 million, since "
        "they can be decoded at a smaller size. Whatever has more than 40 million is made smaller.",
    )
    max_bytes: int = Field(
        default=STANDARD.max_bytes,
        ge=1,
        description="Refuse image files of more bytes, before they are read.",
    )
    keep_metadata: bool = Field(
        default=False,
        description="Keep EXIF and XMP data and texts of images, such as where a photo was taken; false takes out all "
        "but the orientation, and leaves the picture as it is.",
    )

    @property
    def limits(self) -> ImageLimits:
        """What images are held to while they are read."""
        return replace(STANDARD, max_pixels=self.max_pixels, max_bytes=self.max_bytes)


def with_small_images(record: PreferenceRecord, settings: ImageSettings) -> PreferenceRecord:
    """The record with its images `resized`, those that were changed held as bytes with their hash; itself where there
    are none.

    Raises:
        UserError: an image can't be read or decoded.
    """
    if settings.max_side is None and not any(LARGE in image.notes for image in record.images):
        return record
    images = []
    for image in record.images:
        data = read_bytes(image)
        small = resized(data, settings)
        images.append(image if small is data else ImageRef.of_bytes(small, image.notes))
    return replace(record, images=tuple(images))


def resized(data: bytes, settings: ImageSettings) -> bytes:
    """An image in PNG, JPEG or WebP at most `max_side` pixels wide and high, and small enough for any reader of data
    sets (`STANDARD`), in its own format and proportions; the very same bytes where it is that small already.

    A smaller copy is upright RGB without metadata, and the same for the same image and version of Pillow.

    Raises:
        ImageError: the image can't be decoded.
    """
    pixels = math.prod(image_size(data) or (0, 0))
    if settings.max_side is None and pixels <= STANDARD.max_pixels:
        return data
    checked = check_image(data)
    large = LARGE in checked.notes
    if checked.extension is None or not (large or _is_long(checked, settings)):
        return data
    image = decode_image(data)
    size = _fitting(image.size, settings)
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    bare = Image.frombytes("RGB", size, small.tobytes())  # without EXIF, which would turn it again
    buffer = io.BytesIO()
    if checked.extension == "png":
        bare.save(buffer, "PNG", compress_level=6)
    elif checked.extension == "jpg":
        bare.save(buffer, "JPEG", quality=settings.quality)
    else:
        bare.save(buffer, "WEBP", quality=settings.quality, lossless=_is_lossless(data), method=4)
    return buffer.getvalue()


def _is_long(checked: Checked, settings: ImageSettings) -> bool:
    return settings.max_side is not None and max(checked.width, checked.height) > settings.max_side


def _fitting(size: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """The largest size of these proportions that is neither too long nor of too many pixels."""
    factor = min(1.0, (settings.max_side or max(size)) / max(size))
    pixels = size[0] * size[1] * factor**2
    if pixels <= STANDARD.max_pixels:
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    factor *= (STANDARD.max_pixels / pixels) ** 0.5
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def _is_lossless(data: bytes) -> bool:
    """Whether the (first) picture of a WebP is coded without loss; a colour profile or the like may stand before it."""
    place = 12
    while place + 8 <= len(data):
        name = data[place : place + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        # chunks have an even length; those of an animation's frame stand in it, behind 16 bytes about it
        place += 24 if name == b"ANMF" else 8 + size + size % 2
    return False
