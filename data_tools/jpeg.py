"""What a JPEG's segments tell that Pillow doesn't: how many scans there are, and whether the first one is cut short.

libjpeg fills what a scan lacks with grey and only warns, which Pillow doesn't hear. A scan that has codes for all its
blocks doesn't change by bytes put behind it, since nothing reads them; one that was cut goes on with them. So the first
scan is decoded once more with such bytes, if the last pixel is of that grey or the file is progressive. This never
takes a whole file for a cut one. Not found: a cut in the last two rows of blocks (of 8 to 32 pixels each); one in a
later scan than the first, which leaves a picture without its details; and bytes in the middle that were changed or
lost, while the rest is long enough to fill the picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

MOST_SCANS = 100  # progressive files have about ten
_MARKER = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]", re.DOTALL)  # what can stand behind the codes of a scan
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SCAN, _END, _PROGRESSIVE = 0xDA, b"\xff\xd9", 0xC2
_FRAMES = (
    0xC0,
    0xC1,
    _PROGRESSIVE,
)  # of Huffman codes; an arithmetic decoder reads on behind a scan that is whole
_MORE = [
    bytes(range(first, first + 16)) * 16 for first in (0xB5, 0xD3, 0x5A, 0x96)
]  # for a cut scan to go on with
_GREY = frozenset((127, 128))  # what no codes decode to; 127 where inks are inverted


@dataclass(frozen=True)
class _FirstScan:
    """Where the codes of a file's first scan lie; a row of its blocks is `high` pixels."""

    start: int
    stop: int
    high: int
    progressive: bool


def too_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than `MOST_SCANS` scans: of a few bytes each, but each a pass over the whole picture."""
    if data.count(b"\xff\xda") <= MOST_SCANS:  # no file that is what it should be needs more than this look
        return False
    return sum(marker == _SCAN for marker, *_ in segments(data)) > MOST_SCANS


def is_cut(data: bytes, image: Image.Image) -> bool:
    """Whether the first scan of a JPEG, that decodes to `image` at any scale, lacks some of its end."""
    if "progressive" not in image.info and not _ends_grey(image):
        return False
    scan = _first_scan(data)
    if scan is None:
        return False
    begin = data[: scan.stop].rstrip(b"\xff")  # half of a marker, where the cut is in one
    restarts = len(_RESTART.findall(begin, scan.start))
    # where the cut lies between two restarts, the decoder waits for the next one
    more = b"".join(
        codes + bytes((0xFF, 0xD0 + (restarts + number) % 8)) for number, codes in enumerate(_MORE)
    )
    alone, height = _eighth(begin + _END)
    longer, _ = _eighth(begin + more + _END)
    if scan.progressive:
        return alone.tobytes() != longer.tobytes()
    # a cut in the last rows may leave a last pixel that is grey at one scale and not at another
    upper = max((height - 1) // scan.high - 1, 0) * scan.high * alone.height // height
    box = (0, 0, alone.width, upper)
    return _ends_grey(alone) and alone.crop(box).tobytes() != longer.crop(box).tobytes()


def _eighth(data: bytes) -> tuple[Image.Image, int]:
    """The picture at an eighth of its size, which leaves out most of the arithmetic, and its height in the file."""
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    height = image.height
    image.draft(None, (max(image.width // 8, 1), max(height // 8, 1)))
    image.load()
    return image, height


def _ends_grey(image: Image.Image) -> bool:
    last = image.getpixel((image.width - 1, image.height - 1))
    return _GREY.issuperset(last if isinstance(last, tuple) else (last,))


def _first_scan(data: bytes) -> _FirstScan | None:
    """None where the first scan isn't of all components, or its codes aren't Huffman's."""
    frame, parts, high = 0, 0, 8
    for marker, start, stop in segments(data):
        if marker in _FRAMES and not frame and start + 8 <= stop:
            frame, parts = marker, data[start + 7]
            # one component alone has blocks of 8, whatever its factors
            factors = data[start + 9 : stop : 3] if parts > 1 else b""
            high = 8 * max((factor & 15 for factor in factors), default=1)
        elif marker == _SCAN:
            codes = start + int.from_bytes(data[start : start + 2], "big")
            if not frame or not high or data[start + 2] != parts:
                return None
            return _FirstScan(codes, stop, high, frame == _PROGRESSIVE)
    return None


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, place of the length, and end (of a scan, with its codes) of each segment of a file's first picture."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:  # bytes that belong to nothing
            found = _MARKER.search(data, place)
            if not found:
                return
            place = found.start()
        marker = data[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
            continue
        if marker == _END[1]:
            return
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # these stand alone
            place += 2
            continue
        stop = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _SCAN:
            found = _MARKER.search(data, stop)
            stop = found.start() if found else len(data)
        yield marker, place + 2, stop
        place = max(stop, place + 4)
