"""The one hardened decoder: encoded bytes -> an upright RGB image, or a reason why not.

Every image of a data set passes through here before anything else sees it. Left out on purpose: fetching URLs
(an image is bytes or a local file), formats beyond PNG, JPEG, WebP, GIF, BMP and those of phones (AVIF, HEIC), and
repairing damaged files. Truncated files are refused; of JPEGs, which can hide it, `data_tools.jpeg` says what is found
and what isn't.
"""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageFile

from data_tools.gif import has_trailer
from data_tools.image_files import read_bytes
from data_tools.image_kinds import extension, is_known, name_other, phone_format, webp_size
from data_tools.image_limits import STANDARD, ImageError, ImageLimits, current_limits
from data_tools.jpeg import MOST_SCANS, is_cut, too_many_scans
from data_tools.metadata import without_metadata
from data_tools.phone_images import open_format
from data_tools.png import plain_size, surely_whole, without_long_texts
from data_tools.schema import ImageRef

__all__ = [
    "Checked",
    "ImageError",
    "ImageLimits",
    "check_image",
    "decode_image",
    "extension",
    "read_bytes",
    "read_image",
]

_JPEGS = ("JPEG", "MPO")
_PNG_END = b"IEND" + zlib.crc32(b"IEND").to_bytes(4, "big")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
ANIMATED = "animated: its first frame is used"
SEVERAL = "holds several pictures: the first is used"
_SMALLER = "used at a smaller size"

_FEW = (
    2**22
)  # pixels up to which a plain PNG is checked without Pillow, which opening costs more than all else
_MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
_LONGEST_PROFILE = 2**22  # bytes
_QUALITY = 95  # of the JPEG that becomes of a phone's image
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


@dataclass(frozen=True)
class Checked:
    """What `check_image` found: `extension` (`png`, `jpg`, `webp`; None for formats that no shard holds), width and
    height as `decode_image` gives them, and `notes` on what of the file isn't used.
    """

    extension: str | None
    width: int
    height: int
    notes: tuple[str, ...] = ()


def decode_image(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """The image as RGB, turned upright by its EXIF orientation, alpha laid on white, 16 bits scaled to 8.

    An animation, or a JPEG of several pictures (MPO, from phones), gives its first frame. The size is read from
    the header, so a pixel bomb is refused undecoded; a JPEG of more than `max_pixels`, up to `max_photo_pixels`, is
    decoded at a half, a quarter or an eighth of its size. EXIF data that can't be read say nothing, and the image stays
    as it is.

    The numbers are those of the file, as the processors of models read them: a colour profile isn't applied. It is the
    one thing that stays in `info` (`icc_profile`), where it is of RGB.

    Raises:
        ImageError: another format, damaged, truncated, or over the limits (None: `current_limits`).
    """
    limits = limits or current_limits()
    with _decoding(data, limits) as image:
        _draft(image, limits.scale(*image.size))
        image.load()
        _refuse_cut(image, data)
        turn = _UPRIGHT.get(_orientation(image))
        profile = _rgb_profile(image)
        flat = _to_rgb(image)
        upright = flat if turn is None else flat.transpose(turn)
        upright.info = {} if profile is None else {"icc_profile": profile}
        return upright


def _rgb_profile(image: Image.Image) -> bytes | None:
    """The colour profile, where it tells what the numbers of an RGB image mean; one of grey or of CMYK does not."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 128 < len(profile) <= _LONGEST_PROFILE:
        return None
    return profile if profile[16:20] == b"RGB " else None


def check_image(data: bytes, limits: ImageLimits | None = None) -> Checked:
    """What `decode_image` would give, without making it; refuses what that refuses, and nothing else.

    All of the file is read, as only that tells whether it is whole; but a JPEG at an eighth of its size, which leaves
    out most of the arithmetic, and a plain PNG without undoing its filters.

    Raises:
        ImageError: as `decode_image`.
    """
    limits = limits or current_limits()
    plain = (
        plain_size(data, min(limits.max_pixels, STANDARD.max_pixels, _FEW))
        if len(data) <= limits.max_bytes
        else None
    )
    if plain is not None:
        limits.check_size(*plain)
        return Checked("png", *plain)
    with _decoding(data, limits) as image:
        width, height = image.size
        large = width * height > limits.kept_pixels
        scale = limits.scale(width, height) if image.format in _JPEGS else 1
        width, height = -(-width // scale), -(-height // scale)
        _draft(image, 8)
        if image.format != "PNG" or not surely_whole(data):
            image.load()
            _refuse_cut(image, data)
            if image.mode not in ("RGB", "L", "CMYK") or "transparency" in image.info:
                _to_rgb(image)  # palettes and transparent colours can be damaged, too
        if _orientation(image) in (5, 6, 7, 8):
            width, height = height, width
        note = (f"larger than {limits.kept_pixels:,} pixels: {_SMALLER}",) if large else ()
        return Checked(extension(data), width, height, (*_notes(image), *note))


def is_used_smaller(notes: Sequence[str]) -> bool:
    """Whether the notes of `check_image` say that the image is too large to be stored as it is."""
    return any(note.endswith(_SMALLER) for note in notes)


def _draft(image: Image.Image, scale: int) -> None:
    """Has a JPEG decoded at a part of its size; any other image stays as it is."""
    if image.format in _JPEGS and scale > 1:
        image.draft(None, (max(image.width // scale, 1), max(image.height // scale, 1)))


@contextlib.contextmanager
def _decoding(data: bytes, limits: ImageLimits) -> Iterator[Image.Image]:
    """The image opened, its header checked; what Pillow then finds amiss becomes an `ImageError`."""
    if not data:
        raise ImageError("the image is empty (0 bytes)", "image-size", "the image is empty")
    limits.check_bytes(len(data))
    webp = webp_size(data)
    if webp:
        # Pillow's WebP plugin makes room for the whole canvas on opening, so its size is checked before that
        limits.check_size(*webp)
    phone = phone_format(data)
    formats = (open_format(phone),) if phone else FORMATS
    with _strict():
        try:
            image = Image.open(io.BytesIO(without_long_texts(data)), formats=formats)
        except _DAMAGE as error:
            raise _unreadable(data) from error
        photo = image.format in _JPEGS
        limits.check_size(*image.size, photo, photo and "progressive" in image.info)
        cut = f"the {image.format} image is truncated: its end is missing"
        if not _ended(data, image.format):
            raise ImageError(cut, "image-truncated")
        if photo and too_many_scans(data):
            raise ImageError(
                f"the JPEG image has more than {MOST_SCANS} scans, each of which takes as long as the whole picture",
                "image-size",
            )
        try:
            yield image
        except _DAMAGE as error:
            if "truncated" in str(error):
                raise ImageError(cut, "image-truncated") from error
            damaged = f"the {image.format} image is damaged"
            raise ImageError(f"{damaged}: {error}", reason=damaged) from error


def _unreadable(data: bytes) -> ImageError:
    """Of bytes that can't be opened: what they are, where they begin as something else."""
    if is_known(data):
        return ImageError(f"not a readable {', '.join(FORMATS)} image", "image-damaged")
    other = name_other(data)
    if other:
        return ImageError(f"the image is {other}", "image-format")
    return ImageError(f"not a readable {', '.join(FORMATS)}, AVIF or HEIC image", "image-format")


class _Strict:
    """Pillow's process-wide switches while any thread decodes: truncated files, which some libraries have it accept,
    are refused, and its own limit of pixels, which photos of 200 million are over, is off: `ImageLimits` has others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: tuple[bool, int | None] = (False, None)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
                ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = self._before


_strict = _Strict()


def image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header, undecoded; None where there is none that can be read, which `decode_image`
    refuses."""
    header = _header(data)
    return None if header is None else header[0]


def decoded_size(data: bytes, limits: ImageLimits | None = None) -> tuple[int, int] | None:
    """Width and height that `decode_image` makes of an image, but for turning it, by the header; None as in
    `image_size`."""
    header = _header(data)
    if header is None:
        return None
    (width, height), photo = header
    scale = (limits or current_limits()).scale(width, height) if photo else 1
    return -(-width // scale), -(-height // scale)


def _header(data: bytes) -> tuple[tuple[int, int], bool] | None:
    """Width and height, and whether it is a JPEG."""
    size = webp_size(data)
    if size:
        return size, False
    try:
        phone = phone_format(data)
        formats = (open_format(phone),) if phone else FORMATS
        with _strict(), Image.open(io.BytesIO(without_long_texts(data)), formats=formats) as image:
            return image.size, image.format in _JPEGS
    except (*_DAMAGE, ImageError):
        return None


def encode_png(image: Image.Image) -> bytes:
    """The image as PNG bytes, without metadata; the same bytes for the same pixels."""
    buffer = io.BytesIO()
    bare = Image.frombytes(image.mode, image.size, image.tobytes()) if image.info else image
    bare.save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def read_image(
    ref: ImageRef,
    root: Path | None = None,
    limits: ImageLimits | None = None,
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
    """An image as a data URL, in the bytes it has, less its metadata, where these are PNG, JPEG or WebP.

    Raises:
        ImageError: it can't be read.
    """
    data = bare_bytes(stored_bytes(read_bytes(ref)))
    return f"data:{_MEDIA[extension(data) or 'png']};base64,{base64.b64encode(data).decode()}"


def stored_bytes(data: bytes) -> bytes:
    """An image as a shard holds it: PNG, JPEG and WebP as they are, GIF and BMP as PNG, AVIF and HEIC as JPEG.

    Raises:
        ImageError: it can't be read.
    """
    if extension(data):
        return data
    image = decode_image(data)
    if phone_format(data) is None:
        return encode_png(image)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()


def bare_bytes(data: bytes) -> bytes:
    """A PNG, JPEG or WebP without metadata but its orientation: the same picture, without where and by whom it was
    taken, and without EXIF data and texts over which other readers stumble. The same bytes where it has none.
    """
    return without_metadata(data, lambda: _turned(data))


def _turned(data: bytes) -> int:
    """The EXIF orientation of encoded bytes; 1 where they can't be decoded."""
    try:
        with _decoding(data, current_limits()) as image:
            if image.format == "PNG":  # whose EXIF data may stand behind its pixels
                image.load()
            return _orientation(image)
    except ImageError:
        return 1


def _refuse_cut(image: Image.Image, data: bytes) -> None:
    """Refuses a JPEG that was loaded with grey in place of what is missing."""
    if image.format in _JPEGS and is_cut(data, image):
        raise ImageError(
            f"the {image.format} image is truncated: its last rows are missing", "image-truncated"
        )


def _ended(data: bytes, kind: str | None) -> bool:
    """Whether the mark is there that a PNG or GIF ends with; Pillow, which has all the pixels by then, doesn't look
    for it. Of the other formats it reads the end itself.
    """
    if kind == "PNG":
        return _PNG_END in data
    return kind != "GIF" or data.rstrip(b"\0").endswith(b";") or has_trailer(data)


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
