"""What an image may cost: its bytes, its pixels and its shape; and the error of one that is refused."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from data_tools.errors import UserError

TOO_MANY = re.compile(r"the image has more than [0-9,]+ (pixels|bytes)")  # what settings can let in
PROGRESSIVE = 100_000_000  # pixels of a progressive JPEG, which takes 6 bytes for each at any scale
SCALES = (2, 4, 8)  # at which a JPEG can be decoded, as a half, a quarter and an eighth


class ImageError(UserError):
    """An image that is refused: the message says why; `code`, one of `data_tools.source.CODES`, in a word; `reason`
    without names and sizes, so that equal faults can be counted.
    """

    def __init__(self, message: str, code: str = "image-damaged", reason: str = "") -> None:
        super().__init__(message)
        self.code, self.reason = code, reason or message


@dataclass(frozen=True)
class ImageLimits:
    """Refused before it is decoded: more than `max_bytes` encoded, `max_pixels` (width x height) or `max_side` (of
    both), or a longer side of more than `max_ratio` times the shorter one, which models stretch to gigabytes. JPEGs may
    have up to `max_photo_pixels`: the larger ones are decoded at a half, a quarter or an eighth of their size.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 40_000_000
    max_photo_pixels: int = 256_000_000
    max_side: int = 65_535
    max_ratio: int = 200

    @property
    def kept_pixels(self) -> int:
        """Pixels that an image of a data set has at most: larger photos are stored smaller, so that every reader, who
        holds images to `STANDARD`, takes them.
        """
        return min(self.max_pixels, STANDARD.max_pixels)

    def check_bytes(self, size: int) -> None:
        """Raises ImageError where an encoded image has too many bytes."""
        if size > self.max_bytes:
            raise ImageError(
                f"the image has {size:,} bytes, more than the limit of {self.max_bytes:,}",
                "image-size",
                f"the image has more than {self.max_bytes:,} bytes",
            )

    def check_size(self, width: int, height: int, photo: bool = False, progressive: bool = False) -> None:
        """Raises ImageError where an image of so many pixels isn't decoded; a `photo` is a JPEG."""
        shape, long, short = (
            f"the image has {width} x {height} pixels",
            max(width, height),
            min(width, height),
        )
        if short < 1:
            raise ImageError(
                f"the image has no pixels ({width} x {height})", "image-size", "the image has no pixels"
            )
        most = max(self.max_photo_pixels, self.max_pixels) if photo else self.max_pixels
        if progressive:
            most = min(most, max(PROGRESSIVE, self.max_pixels))
        if width * height > most:
            raise ImageError(
                f"{shape}, more than the limit of {most:,}",
                "image-size",
                f"the image has more than {most:,} pixels",
            )
        if long > self.max_side:
            raise ImageError(
                f"{shape}, more than {self.max_side:,} on a side",
                "image-size",
                f"the image is more than {self.max_side:,} pixels long",
            )
        if long > self.max_ratio * short:
            why = f"longer than {self.max_ratio} times its shorter side"
            raise ImageError(f"{shape}: it is {why}", "image-size", f"the image is {why}")

    def scale(self, width: int, height: int) -> int:
        """By how much a JPEG must be scaled down to be decoded: 1 (not at all), 2, 4 or 8."""
        if width * height <= self.max_pixels:
            return 1
        fit = (scale for scale in SCALES if -(-width // scale) * -(-height // scale) <= self.max_pixels)
        return next(fit, SCALES[-1])


STANDARD = ImageLimits()  # what every image of a finished data set keeps
_LIMITS = ContextVar("image limits", default=STANDARD)


def current_limits() -> ImageLimits:
    """The limits that images are held to where none are named."""
    return _LIMITS.get()


@contextlib.contextmanager
def image_limits(limits: ImageLimits) -> Iterator[None]:
    """Holds images to these limits, where no others are named, while it lasts."""
    token = _LIMITS.set(limits)
    try:
        yield
    finally:
        _LIMITS.reset(token)
