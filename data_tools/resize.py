"""Smaller images in a data set, where its config asks for them; otherwise the bytes stay what they were."""

from __future__ import annotations

import io
from dataclasses import replace

from PIL import Image
from pydantic import Field

from data_tools.config import Config
from data_tools.images import check_image, decode_image, read_bytes
from data_tools.schema import ImageRef, PreferenceRecord


class ImageSettings(Config):
    """What is done to images that go into shards; as it stands, nothing."""

    max_side: int | None = Field(
        default=None,
        ge=16,
        description="Make larger images so many pixels long at their longer side; null keeps them as they are.",
    )
    quality: int = Field(
        default=90, ge=1, le=100, description="Of JPEG and lossy WebP images that are made smaller."
    )


def with_small_images(record: PreferenceRecord, settings: ImageSettings) -> PreferenceRecord:
    """The record with its images `resized`, those that were changed held as bytes with their hash; itself where there
    are none.

    Raises:
        UserError: an image can't be read or decoded.
    """
    if settings.max_side is None or not record.images:
        return record
    images = []
    for image in record.images:
        data = read_bytes(image)
        small = resized(data, settings)
        images.append(image if small is data else ImageRef.of_bytes(small, image.notes))
    return replace(record, images=tuple(images))


def resized(data: bytes, settings: ImageSettings) -> bytes:
    """An image in PNG, JPEG or WebP at most `max_side` pixels wide and high, in its own format and proportions; the
    very same bytes where it is that small already.

    A smaller copy is upright RGB without metadata, and the same for the same image and version of Pillow.

    Raises:
        ImageError: the image can't be decoded.
    """
    if settings.max_side is None:
        return data
    found = check_image(data)
    if max(found.width, found.height) <= settings.max_side or found.extension is None:
        return data
    factor = settings.max_side / max(found.width, found.height)
    size = (max(1, round(found.width * factor)), max(1, round(found.height * factor)))
    small = decode_image(data).resize(size, Image.Resampling.LANCZOS)
    bare = Image.frombytes("RGB", size, small.tobytes())  # without EXIF, which would turn it again
    buffer = io.BytesIO()
    if found.extension == "png":
        bare.save(buffer, "PNG", compress_level=6)
    elif found.extension == "jpg":
        bare.save(buffer, "JPEG", quality=settings.quality)
    else:
        bare.save(buffer, "WEBP", quality=settings.quality, lossless=_is_lossless(data), method=4)
    return buffer.getvalue()


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
