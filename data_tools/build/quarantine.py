"""Rows that gave no record, kept with their reason: rows.jsonl, and the bytes at fault as images/CODE/SHA256.bin."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_tools.source import Rejected

FOLDER, ROWS = "quarantine", "rows.jsonl"


class Quarantine:
    """Collects the rejected rows of a source in a folder."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.source = folder, source
        self.reasons: Counter[str] = Counter()
        self.firsts: dict[str, str] = {}  # by reason, where it was seen first
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / ROWS, "w", encoding="utf-8")  # noqa: SIM115 (closed by `close`)

    def add(self, item: Rejected) -> None:
        """Writes a row, with its bytes in files of their own."""
        self.reasons[item.reason] += 1
        self.firsts.setdefault(item.reason, item.where)
        row: dict[str, Any] = {
            "source": self.source,
            "code": item.code,
            "reason": item.reason,
            "where": item.where,
        }
        if item.image is not None:
            row["image"] = self._keep(item.image, item.code)
        if item.row is not None:
            try:
                row["row"] = self._plain(item.row, item.code)
            except RecursionError:
                row["row"] = "nested too deep to be written"
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Syncs and closes the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.close()
        else:
            with contextlib.suppress(OSError):  # a full disk fails once more
                self._file.close()

    def _keep(self, data: bytes, code: str) -> str:
        name = f"images/{code}/{hashlib.sha256(data).hexdigest()}.bin"
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return name

    def _plain(self, value: Any, code: str) -> Any:
        """The value as JSON can hold it."""
        if isinstance(value, bytes | bytearray | memoryview):
            return self._keep(bytes(value), code)
        if isinstance(value, dict):
            return {str(key): self._plain(item, code) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(item, code) for item in value]
        if value is None or isinstance(value, str | bool | int):
            return value
        return value if isinstance(value, float) and math.isfinite(value) else str(value)


def gather(folders: Iterable[Path], out: Path) -> None:
    """One quarantine of several, in their order; files that hold the same are one."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ROWS, "wb") as file:
        for folder in folders:
            with open(folder / ROWS, "rb") as rows:
                shutil.copyfileobj(rows, file)
            for path in sorted(folder.glob("images/*/*.bin")):
                target = out / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    link_or_copy(path, target)
        file.flush()
        os.fsync(file.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """A second name of the file where the disk can do that, else a copy; the first is left for a later `--resume`."""
    try:
        os.link(source, target)
    except OSError:
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_bytes(source.read_bytes())
        os.replace(temporary, target)
