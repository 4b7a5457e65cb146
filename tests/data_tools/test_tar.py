from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from data_tools import tar
from data_tools.atomic import write_text
from data_tools.errors import UserError


def test_a_header_is_what_the_standard_library_writes(tmp_path: Path) -> None:
    members = [("a.json", b"{}"), ("b-1_0.12.webp", bytes(1537)), ("x" * 100, b"")]
    writer = tar.TarWriter(tmp_path / "a.tar")
    for name, data in members:
        writer.add(name, data)
    writer.finish()
    expected = b""
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        expected += info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    assert (tmp_path / "a.tar").read_bytes() == expected + bytes(1024)
    assert [member.name for member in tar.scan(tmp_path / "a.tar")] == [name for name, _ in members]
    with pytest.raises(UserError, match="its name too long"):
        writer.add("x" * 101, b"")


def test_members_of_other_programs_are_read(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("{}")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "in.json", "k.json")  # with an owner, a time and a mode of its own
    assert list(tar.scan(tmp_path / "a.tar")) == [tar.Member("k.json", 512, 2)]


def test_files_and_their_names_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def fsync(handle: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "a")
    writer = tar.TarWriter(tmp_path / "a.tar")
    writer.add("k.json", b"{}")
    writer.finish()
    assert synced == ["file", "folder", "file", "folder"]
