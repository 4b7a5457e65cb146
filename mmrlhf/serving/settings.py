"""What a reward server takes in, and how it puts requests together."""

from __future__ import annotations

from pydantic import Field

from data_tools.config import Config


class ServerSettings(Config):
    """Limits and batching of a reward server. Whatever is over a limit is refused before it costs memory or time."""

    max_batch: int = Field(32, ge=1, description="answers that are judged at a time")
    max_batch_tokens: int = Field(
        16384, ge=1, description="padded tokens of one forward, image tokens included"
    )
    max_wait_ms: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="how long an answer waits for others to be judged with it"
    )
    max_queue: int = Field(256, ge=1, description="answers in the server at a time; beyond them it says 503")
    max_request_mb: float = Field(32.0, gt=0, allow_inf_nan=False, description="size of a request")
    max_pixels: int = Field(16_000_000, ge=1, description="width x height of an image")
    max_request_pixels: int = Field(
        64_000_000, ge=1, description="pixels of all images of a request together"
    )
    max_images: int = Field(8, ge=1, description="images of a prompt")
    max_tokens: int = Field(
        4096, ge=1, description="tokens of a prompt and its answer, image tokens included"
    )
    body_timeout: float = Field(
        60.0, gt=0, allow_inf_nan=False, description="seconds in which a request must have arrived"
    )

    @property
    def max_request_bytes(self) -> int:
        """`max_request_mb` in bytes."""
        return int(self.max_request_mb * 2**20)
