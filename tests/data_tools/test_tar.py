from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from data_tools.tar import TarWriter


def test_headers_are_those_of_tarfile(tmp_path: Path) -> None:
    writer = TarWriter(tmp_path / "ours.tar")
    members = {"00000000.json": b"", "00000000.0.jpg": b"x" * 513, "k" * 100: b"y" * 4711}
    for name, data in members.items():
        writer.add(name, data)
    writer.finish()
    plain = b""
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), 0o644, 0
        plain += info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") + data + bytes(-len(data) % 512)
    assert (tmp_path / "ours.tar").read_bytes() == plain + bytes(1024)
    for name in ("", "k" * 101, "\u00fc.json"):
        with pytest.raises(ValueError):  # noqa: PT011 (one that means a bug of ours)
            writer.add(name, b"")
