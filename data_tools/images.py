"""The one hardened decoder: encoded bytes -> an upright RGB image, or a reason why not.

Every image of a data set passes through here before anything else sees it. Left out on purpose: fetching URLs
(an image is bytes or a local file), formats beyond PNG, JPEG, WebP, GIF and BMP, and repairing damaged files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from data_tools.errors import UserError
from data_tools.schema import ImageRef

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
URL = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]+:(//|[^/\\])")  # a scheme; one letter is a Windows drive

_MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
# what Pillow raises on damaged files: its plugins let the errors of their parsing through
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageError(UserError):
    """An image that is refused; the message says why, and `code`, one of `data_tools.source.CODES`, in a word."""

    def __init__(self, message: str, code: str = "image-damaged") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ImageLimits:
    """Refused before it is decoded: more than `max_bytes` encoded, or `max_pixels` (width x height)."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 40_000_000


def decode_image(data: bytes, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """The image as RGB, turned upright by its EXIF orientation, alpha laid on white, 16 bits scaled to 8.

    An animation, or a JPEG of several pictures (MPO, from phones), gives its first frame. The size is read from
    the header, so a pixel bomb is refused undecoded.

    Raises:
        ImageError: another format, damaged, truncated, or over the limits.
    """
    if not data:
        raise ImageError("the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError(f"the image has {len(data):,} bytes, more than the limit of {limits.max_bytes:,}")
    webp = _webp_size(data)
    if webp:
        # Pillow's WebP plugin makes room for the whole canvas on opening, so its size is checked before that
        _check_pixels(*webp, limits)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is too large to decode: {error}") from error
    except _DAMAGE as error:
        raise ImageError(f"not a readable {', '.join(FORMATS)} image") from error
    _check_pixels(*image.size, limits)
    if not _complete(data, image.format or ""):
        raise ImageError(f"the {image.format} image is truncated: its end is missing")
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except _DAMAGE as error:
        raise ImageError(f"the {image.format} image is damaged: {error}") from error


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header, undecoded; None where there is none that can be read, which `decode_image`
    refuses."""
    size = _webp_size(data)
    if size:
        return size
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except _DAMAGE:
        return None


def encode_png(image: Image.Image) -> bytes:
    """The image as PNG bytes, without metadata; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    bare = Image.frombytes(image.mode, image.size, image.tobytes()) if image.info else image
    bare.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def read_bytes(
    ref: ImageRef,
    root: Path | None = None,
    limits: ImageLimits = ImageLimits(),
) -> bytes:
    """The encoded bytes of an image held in memory or in a local file (below `root`, where given).

    Raises:
        ImageError: a URL, no such file, a path that leaves `root`, too many bytes, or not the bytes of its
            hash.
    """
    if ref.data is not None:
        return ref.data
    assert ref.path is not None
    path = local_path(ref.path, root)
    try:
        if not path.is_file():
            raise ImageError(f"{path}: no such image file")
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise ImageError(f"{path}: has {size:,} bytes, more than the limit of {limits.max_bytes:,}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: can't be read ({error})") from error
    if ref.sha256 and hashlib.sha256(data).hexdigest() != ref.sha256:
        raise ImageError(f"{path}: has changed since it was indexed (another sha256)")
    return data


def local_path(name: str, root: Path | None = None) -> Path:
    """The file `name` names, below `root` where given; refuses URLs and paths that leave `root`."""
    if URL.match(name):
        raise ImageError(f"{name[:80]}: is a URL; images are read from local files only")
    if root is None:
        return Path(name)
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise ImageError(f"{name[:80]}: leaves the image folder {root}")
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"{name[:80]!r}: not a path ({error})") from error
    return path


def read_image(
    ref: ImageRef,
    root: Path | None = None,
    limits: ImageLimits = ImageLimits(),
) -> Image.Image:
    """`decode_image` of `read_bytes`: the image a record refers to."""
    return decode_image(read_bytes(ref, root, limits), limits)


def thumbnail(ref: ImageRef, size: int) -> str:
    """A small copy of an image, at most `size` wide and high, as base64 PNG.

    Raises:
        ImageError: it can't be read.
    """
    image = read_image(ref)
    image.thumbnail((size, size))
    return base64.b64encode(encode_png(image)).decode()


def data_url(ref: ImageRef) -> str:
    """An image as a data URL, in the bytes it has where these are PNG, JPEG or WebP.

    Raises:
        ImageError: it can't be read.
    """
    data = read_bytes(ref)
    kind = extension(data)
    if kind is None:
        kind, data = "png", encode_png(decode_image(data))
    return f"data:{_MEDIA[kind]};base64,{base64.b64encode(data).decode()}"


def extension(data: bytes) -> str | None:
    """`png`, `jpg` or `webp` by the first bytes, the formats a shard holds; None for any other."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than the limit of {limits.max_pixels:,}"
        )


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP header; None where the bytes are no WebP or the header is cut short."""
    if extension(data) != "webp" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _complete(data: bytes, kind: str) -> bool:
    """Whether the end of the file is there.

    Pillow checks this too, unless some library has set its process-wide switch to accept truncated files. It gives a
    JPEG that holds several pictures the name MPO. Raises `ImageError` for a format that isn't known here.
    """
    if kind == "PNG":
        return b"IEND" in data
    if kind in ("JPEG", "MPO"):
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 <= len(data)
    if kind == "GIF":
        return data.rstrip(b"\0").endswith(b";")
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") <= len(data)
    raise ImageError(f"the image is a {kind or 'nameless'} file, which is none of {', '.join(FORMATS)}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it at 255
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L").convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
