"""HEIC and AVIF, which phones write: by pillow-heif (the extra `heic`), and by Pillow itself from 11.3 on."""

from __future__ import annotations

from functools import cache
from typing import Literal

from PIL import features

from data_tools.image_limits import ImageError

NO_HEIC = "a HEIC image: reading it needs pillow-heif (pip install 'mmrlhf[heic]'); or save it as JPEG"
NO_AVIF = "an AVIF image: reading it needs Pillow 11.3 or newer (pip install -U pillow); or save it as JPEG"


@cache
def reads_avif() -> bool:
    """Whether Pillow was built with AVIF."""
    # releases before 11.3 don't know the name, and would warn
    return "avif" in features.modules and bool(features.check("avif"))


@cache
def reads_heic() -> bool:
    """Whether pillow-heif is there; makes Pillow open HEIC with it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


def open_format(kind: Literal["AVIF", "HEIC"]) -> str:
    """What Pillow calls the format, once it can open it.

    Raises:
        ImageError: it can't; the message says what is missing.
    """
    if not (reads_avif() if kind == "AVIF" else reads_heic()):
        why = NO_AVIF if kind == "AVIF" else NO_HEIC
        raise ImageError(f"the image is {why}", "image-format")
    return "AVIF" if kind == "AVIF" else "HEIF"
