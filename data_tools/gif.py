"""Whether a GIF has its end, which Pillow, having the pixels by then, doesn't look for."""

from __future__ import annotations


def has_trailer(data: bytes) -> bool:
    """Whether the blocks of a GIF lead to its trailer; what stands behind it doesn't matter."""
    place = 13 + _table(data[10:11])
    while place < len(data):
        block = data[place]
        if block == 0x3B:
            return True
        if block == 0x2C:  # an image: where it lies, its palette, the size of its first codes
            place += 11 + _table(data[place + 9 : place + 10])
        elif block == 0x21:
            place += 2
        else:
            return False
        while place < len(data) and data[place]:  # sub-blocks, each behind its length, up to one of none
            place += 1 + data[place]
        place += 1
    return False


def _table(flags: bytes) -> int:
    """The bytes of the palette that a block's flags announce."""
    return 3 * 2 ** ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
