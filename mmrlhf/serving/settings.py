"""What a reward server takes in, and how it puts requests together."""

from __future__ import annotations

from pydantic import Field

from data_tools.config import Config
from data_tools.image_limits import SCALES, STANDARD, ImageLimits
from mmrlhf.serving import defaults


class ServerSettings(Config):
    """Limits and batching of a reward server. Whatever is over a limit is refused before it costs memory or time."""

    max_batch: int = Field(defaults.MAX_BATCH, ge=1, description="answers judged at a time")
    max_batch_tokens: int = Field(
        defaults.MAX_BATCH_TOKENS, ge=1, description="padded tokens of one forward, with images"
    )
    max_wait_ms: float = Field(
        defaults.MAX_WAIT_MS,
        ge=0,
        allow_inf_nan=False,
        description="how long an answer waits for others to be judged with it",
    )
    max_queue: int = Field(defaults.MAX_QUEUE, ge=1, description="answers in the server at a time; then: 503")
    max_request_mb: float = Field(
        defaults.MAX_REQUEST_MB, gt=0, allow_inf_nan=False, description="size of a request; above: 413"
    )
    max_pixels: int = Field(
        defaults.MAX_PIXELS,
        ge=1,
        description="width x height of an image; larger JPEG photos are decoded at a half, a quarter or an eighth of "
        "their size",
    )
    max_request_pixels: int = Field(
        defaults.MAX_REQUEST_PIXELS,
        ge=1,
        description="pixels, as decoded, of all images of a request together; above: 413",
    )
    max_images: int = Field(defaults.MAX_IMAGES, ge=1, description="images of a prompt")
    max_tokens: int = Field(
        defaults.MAX_TOKENS, ge=1, description="tokens of a prompt and its answer, with images"
    )
    body_timeout: float = Field(
        60.0, gt=0, allow_inf_nan=False, description="seconds in which a request must have arrived"
    )

    @property
    def max_request_bytes(self) -> int:
        """`max_request_mb` in bytes."""
        return int(self.max_request_mb * 2**20)

    @property
    def image_limits(self) -> ImageLimits:
        """What an image of a request is held to; a photo to what decoding at an eighth brings down to `max_pixels`."""
        photo = min(STANDARD.max_photo_pixels, SCALES[-1] ** 2 * self.max_pixels)
        return ImageLimits(self.max_request_bytes, self.max_pixels, photo)
