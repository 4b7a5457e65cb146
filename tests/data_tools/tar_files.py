"""Tars as others write them, for the tests of the readers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence


def tar_bytes(
    members: Sequence[tuple[str, bytes | str] | tarfile.TarInfo], form: int = tarfile.GNU_FORMAT
) -> bytes:
    """A tar of (name, content) members, written by the standard library; a TarInfo is a member without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A link, device or folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
