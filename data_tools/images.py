"""The one hardened decoder: encoded bytes -> an upright RGB image, or a reason why not.

Every image of a data set passes through here before anything else sees it. Left out on purpose: fetching URLs
(an image is bytes or a local file), formats beyond PNG, JPEG, WebP, GIF and BMP, and repairing damaged files.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ExifTags, Image, ImageFile

from data_tools.errors import UserError
from data_tools.png import plain_size, surely_whole
from data_tools.schema import ImageRef

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
URL = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]+:(//|[^/\\])")  # a scheme; one letter is a Windows drive
ANIMATED = "animated: its first frame is used"
SEVERAL = "holds several pictures: the first is used"
NO_FILE = "no such image file"

_FEW = (
    2**22
)  # pixels up to which a plain PNG is checked without Pillow, which opening costs more than all else
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
    Warning,  # where a program makes errors of them
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


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


@dataclass(frozen=True)
class Checked:
    """What `check_image` found: `extension` (`png`, `jpg`, `webp`; None for formats that no shard holds), width and
    height as `decode_image` gives them, and `notes` on what of the file isn't used.
    """

    extension: str | None
    width: int
    height: int
    notes: tuple[str, ...] = ()


def decode_image(data: bytes, limits: ImageLimits = ImageLimits()) -> Image.Image:
    """The image as RGB, turned upright by its EXIF orientation, alpha laid on white, 16 bits scaled to 8.

    An animation, or a JPEG of several pictures (MPO, from phones), gives its first frame. The size is read from
    the header, so a pixel bomb is refused undecoded. EXIF data that can't be read say nothing, and the image stays as
    it is.

    Raises:
        ImageError: another format, damaged, truncated, or over the limits.
    """
    with _decoding(data, limits) as image:
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        flat = _to_rgb(image)
        return flat if turn is None else flat.transpose(turn)


def check_image(data: bytes, limits: ImageLimits = ImageLimits()) -> Checked:
    """What `decode_image` would give, without making it; refuses what that refuses, and nothing else.

    All of the file is read, as only that tells whether it is whole; but a JPEG at an eighth of its size, which leaves
    out most of the arithmetic, and a plain PNG without undoing its filters.

    Raises:
        ImageError: as `decode_image`.
    """
    plain = plain_size(data, min(limits.max_pixels, _FEW)) if len(data) <= limits.max_bytes else None
    if plain is not None:
        return Checked("png", *plain)
    with _decoding(data, limits) as image:
        width, height = image.size
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (max(width // 8, 1), max(height // 8, 1)))
        if image.format != "PNG" or not surely_whole(data):
            image.load()
            if image.mode not in ("RGB", "L", "CMYK") or "transparency" in image.info:
                _to_rgb(image)  # palettes and transparent colours can be damaged, too
        if _orientation(image) in (5, 6, 7, 8):
            width, height = height, width
        return Checked(extension(data), width, height, _notes(image))


@contextlib.contextmanager
def _decoding(data: bytes, limits: ImageLimits) -> Iterator[Image.Image]:
    """The image opened, its header checked; what Pillow then finds amiss becomes an `ImageError`."""
    if not data:
        raise ImageError("the image is empty (0 bytes)", "image-size")
    if len(data) > limits.max_bytes:
        raise ImageError(
            f"the image has {len(data):,} bytes, more than the limit of {limits.max_bytes:,}", "image-size"
        )
    webp = _webp_size(data)
    if webp:
        # Pillow's WebP plugin makes room for the whole canvas on opening, so its size is checked before that
        _check_pixels(*webp, limits)
    with _strict():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"the image is too large to decode: {error}", "image-size") from error
        except _DAMAGE as error:
            raise ImageError(f"not a readable {', '.join(FORMATS)} image", _unreadable(data)) from error
        _check_pixels(*image.size, limits)
        cut = f"the {image.format} image is truncated: its end is missing"
        if not _ended(data, image.format):
            raise ImageError(cut, "image-truncated")
        try:
            yield image
        except _DAMAGE as error:
            if "truncated" in str(error):
                raise ImageError(cut, "image-truncated") from error
            raise ImageError(f"the {image.format} image is damaged: {error}") from error


class _Strict:
    """Pillow's process-wide switch to accept truncated files, which some libraries turn on, off while any thread
    decodes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    ImageFile.LOAD_TRUNCATED_IMAGES = self._before


_strict = _Strict()


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
            raise ImageError(f"{path}: {NO_FILE}", "image-missing")
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise ImageError(
                f"{path}: has {size:,} bytes, more than the limit of {limits.max_bytes:,}", "image-size"
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: can't be read ({error})", "image-missing") from error
    if ref.sha256 and hashlib.sha256(data).hexdigest() != ref.sha256:
        raise ImageError(f"{path}: has changed since it was indexed (another sha256)")
    return data


def local_path(name: str, root: Path | None = None) -> Path:
    """The file `name` names, below `root` where given; refuses URLs and paths that leave `root`."""
    if URL.match(name):
        raise ImageError(f"{name[:80]}: is a URL; images are read from local files only", "image-url")
    if root is None:
        return Path(name)
    path = os.path.join(root, name)
    try:
        inside = os.path.join(_real(str(root)), "")
        # links of a folder are followed once, not for each of its pictures
        real = os.path.join(_real(os.path.dirname(path)), os.path.basename(path))
        if os.path.islink(real) or os.path.basename(path) in ("", ".", ".."):
            real = os.path.realpath(path)
        if not real.startswith(inside):
            raise ImageError(f"{name[:80]}: leaves the image folder {root}", "image-outside")
    except (OSError, ValueError, RuntimeError) as error:
        raise ImageError(f"{name[:80]!r}: not a path ({error})", "image-missing") from error
    return Path(path)


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


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
        raise ImageError(f"the image has no pixels ({width} x {height})", "image-size")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than the limit of {limits.max_pixels:,}",
            "image-size",
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


def _unreadable(data: bytes) -> str:
    """The code of bytes that can't be opened: `image-damaged` where they begin as one of the formats."""
    known = extension(data) is not None or data[:4] == b"GIF8" or data[:2] == b"BM"
    return "image-damaged" if known else "image-format"


def _ended(data: bytes, kind: str | None) -> bool:
    """Whether the mark is there that a PNG or GIF ends with; Pillow, which has all the pixels by then, doesn't look
    for it. Of the other formats it reads the end itself.
    """
    if kind == "PNG":
        return b"IEND" in data
    return kind != "GIF" or data.rstrip(b"\0").endswith(b";")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8, of an image all of whose chunks were read."""
    try:
        # not the PNG plugin's own, which loads the image first
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except _DAMAGE:
        return 1


def _notes(image: Image.Image) -> tuple[str, ...]:
    try:
        several = getattr(image, "is_animated", False)
    except _DAMAGE:  # of the second frame
        several = True
    if not several:
        return ()
    return (SEVERAL if image.format == "MPO" else ANIMATED,)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, which Pillow's own conversion clips at 255, and whose transparent shade it leaves out."""
    import numpy as np

    values = np.asarray(image).astype(np.int64)
    grey = np.clip((2 * values + 257) // 514, 0, 255).astype(np.uint8)  # value / 257, rounded
    shade = image.info.get("transparency")
    if isinstance(shade, int):
        grey[values == shade] = 255
    return Image.fromarray(grey).convert("RGB")
