"""Short cuts past Pillow and the standard library's tarfile: they say what those say, or leave it to them."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import zlib

import pytest
from PIL import Image, PngImagePlugin

from data_tools.images import Checked, check_image
from data_tools.png import plain_size
from data_tools.rows.members import Entry, Members, plain_header

MANY = 10**6


def png(mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (5, 3)).save(buffer, "PNG", **options)
    return buffer.getvalue()


def with_chunk(data: bytes, name: bytes, body: bytes, place: int = 33) -> bytes:
    """A chunk more, behind the header or elsewhere."""
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return data[:place] + chunk + data[place:]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_plain_pngs_are_measured(mode: str) -> None:
    assert plain_size(png(mode), MANY) == (5, 3)
    assert check_image(png(mode)) == Checked("png", 5, 3)


def test_chunks_about_colour_and_density_change_nothing() -> None:
    assert plain_size(png(dpi=(72, 72)), MANY) == (5, 3)
    assert plain_size(with_chunk(png(), b"gAMA", struct.pack(">I", 45455)), MANY) == (5, 3)


@pytest.mark.parametrize(
    "data",
    [
        png("P"),
        png(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        png(
            pnginfo=(lambda info: info.add_text("XML:com.adobe.xmp", "turned") or info)(
                PngImagePlugin.PngInfo()
            )
        ),
        png(transparency=(0, 0, 0)),
        png(save_all=True, append_images=[Image.new("RGB", (5, 3), "red")]),
        with_chunk(png(), b"gAMA", b"\0"),
        with_chunk(png(), b"IHDR", png()[16:29]),
        with_chunk(png(), b"IEND", b""),
        with_chunk(png(), b"IDAT", b"", place=len(png())),
        png()[:-1],
        b"",
        png()[8:],
    ],
    ids=[
        "palette",
        "exif",
        "text",
        "transparent",
        "animated",
        "short",
        "header",
        "end",
        "behind",
        "cut",
        "empty",
        "bare",
    ],
)
def test_whatever_else_a_png_holds_is_left_to_pillow(data: bytes) -> None:
    assert plain_size(data, MANY) is None


def test_no_byte_of_a_png_can_be_another() -> None:
    data = png()
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert plain_size(damaged, MANY) is None


def test_too_many_pixels_are_left_to_pillow() -> None:
    assert plain_size(png(), 14) is None
    assert plain_size(png(), 15) == (5, 3)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_the_standard_library_are_plain(form: int) -> None:
    info = tarfile.TarInfo("./folder/a.b.json")
    info.size, info.mtime, info.uname = 1234, 1_700_000_000, "somebody"
    assert plain_header(info.tobuf(form)) == ("./folder/a.b.json", 1234)
    archive = io.BytesIO(info.tobuf(form) + bytes(1234 + 302 + 1024))
    assert list(Members(archive)) == [Entry("folder/a.b.json", "file", 1234)]


def test_a_header_is_plain_only_where_the_standard_library_reads_the_same() -> None:
    rng = random.Random(0)
    info = tarfile.TarInfo("key.png")
    info.size = 4321
    whole, plain = info.tobuf(tarfile.USTAR_FORMAT), 0
    for _ in range(4000):
        header = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            header[rng.randrange(512)] = rng.choice(b"\0 07/.\x80\xffa")
        if rng.random() < 0.8:  # else the checksum is wrong
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
        found = plain_header(bytes(header))
        if found is not None:
            plain += 1
            read = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "replace")
            assert (read.name, read.size, read.type) == (*found, tarfile.REGTYPE)
    assert 1000 < plain < 3500


def test_a_name_that_goes_on_in_the_prefix_is_read_whole() -> None:
    info = tarfile.TarInfo("d" * 90 + "/" + "k" * 90 + ".json")
    header = info.tobuf(tarfile.USTAR_FORMAT)
    assert plain_header(header) is None
    assert [entry.name for entry in Members(io.BytesIO(header + bytes(1024)))] == [info.name]
