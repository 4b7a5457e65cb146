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
from data_tools.images import check_image, decode_image, image_size, is_used_smaller
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
        description="Refuse images of more pixels (width x height); larger JPEG photos, up to 256 million, are taken "
        "and made so small. Whatever has more than 40 million is made smaller in any case.",
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
    # images of another data set were checked when that was made, with its limits and not with these
    lower = settings.max_pixels < STANDARD.max_pixels
    if not (settings.max_side or lower or any(is_used_smaller(image.notes) for image in record.images)):
        return record
    images = []
    for image in record.images:
        data = read_bytes(image)
        small = resized(data, settings)
        images.append(image if small is data else ImageRef.of_bytes(small, image.notes))
    return replace(record, images=tuple(images))


def resized(data: bytes, settings: ImageSettings) -> bytes:
    """An image in PNG, JPEG or WebP at most `max_side` pixels wide and high, and of no more pixels than `max_pixels`
    and any reader of data sets allow, in its own format and proportions; the very same bytes where it is that small
    already.

    A smaller copy is upright RGB without metadata but its colour profile, and the same for the same image and version
    of Pillow. It isn't converted to sRGB: models read the numbers of a file without its profile, so they see of a
    smaller copy what they would of the image itself, and viewers, which apply the profile, show its colours.

    Raises:
        ImageError: the image can't be decoded, or is refused (`ImageSettings.limits`).
    """
    limits = settings.limits
    pixels = math.prod(image_size(data) or (0, 0))
    large = pixels > limits.kept_pixels
    if settings.max_side is None and not large:
        return data
    checked = check_image(data, limits)
    is_long = settings.max_side is not None and max(checked.width, checked.height) > settings.max_side
    if checked.extension is None or not (large or is_long):
        return data
    # a photo of more than `max_pixels` isn't decoded at a half or a quarter, which would leave fewer than it may have
    image = decode_image(data, replace(limits, max_pixels=max(limits.max_pixels, STANDARD.max_pixels)))
    size = _fitting(image.size, settings)
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
    profile = image.info.get("icc_profile")
    buffer = io.BytesIO()
    if checked.extension == "png":
        small.save(buffer, "PNG", compress_level=6, icc_profile=profile)
    elif checked.extension == "jpg":
        small.save(buffer, "JPEG", quality=settings.quality, icc_profile=profile)
    else:
        lossless = _is_lossless(data)
        small.save(buffer, "WEBP", quality=settings.quality, lossless=lossless, method=4, icc_profile=profile)
    return buffer.getvalue()


def _fitting(size: tuple[int, int], settings: ImageSettings) -> tuple[int, int]:
    """The largest size of these proportions that is neither too long nor of too many pixels."""
    most = settings.limits.kept_pixels
    factor = min(1.0, (settings.max_side or max(size)) / max(size))
    pixels = size[0] * size[1] * factor**2
    if pixels <= most:
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    factor *= (most / pixels) ** 0.5
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
