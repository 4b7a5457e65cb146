"""Rows that gave no record, kept with their reason: rows.jsonl, and the bytes at fault as images/CODE/SHA256.bin.

A row of any kind can be written: what JSON doesn't know, such as dates and NaN, is told as text, and of a very large
row only a beginning is kept (`MOST_ROW`), with how much was left out. Its place in the source is always there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data_tools.build.reasons import Reasons
from data_tools.source import Rejected

FOLDER, ROWS = "quarantine", "rows.jsonl"
MOST_ROW = (
    4 * 2**20
)  # of a row that are kept: characters of its texts, numbers and names, and a few for each value
MOST_WORDS = 300  # characters of a reason or a place
_EACH = 4  # what a value counts by itself
_LONGEST = (
    2**64
)  # whole numbers beyond this one's size are told as text, since Python may refuse to write them


class Quarantine:
    """Collects the rejected rows of a source in a folder."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.source = folder, source
        self.reasons = Reasons()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / ROWS, "w", encoding="utf-8")  # noqa: SIM115 (closed by `close`)

    def add(self, item: Rejected) -> None:
        """Writes a row, with its bytes in files of their own."""
        reason, where = words(item.reason), words(item.where)
        self.reasons.add(reason, where)
        row: dict[str, Any] = {"source": self.source, "code": item.code, "reason": reason, "where": where}
        if item.image is not None:
            row["image"] = self._keep(item.image, item.code)
        if item.row is not None:
            try:
                row["row"] = _Plain(lambda data: self._keep(data, item.code)).of(item.row)
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


def words(text: str) -> str:
    """A reason or a place as it can be printed and stored: one line of plain characters, not too long."""
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:MOST_WORDS]
    )
    return shown if len(text) <= MOST_WORDS else f"{shown} ..."


class _Plain:
    """A row's values as JSON can hold them, up to `MOST_ROW`; bytes become what `keep` makes of them."""

    def __init__(self, keep: Callable[[bytes], str]) -> None:
        self.keep, self.left = keep, MOST_ROW

    def of(self, value: Any) -> Any:
        """The value; raises RecursionError where it is nested too deep."""
        self.left -= _EACH
        if isinstance(value, bytes | bytearray | memoryview):
            return self.keep(bytes(value))
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list | tuple):
            return self._list(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value) if abs(value) < _LONGEST else self._text(hex(value))
        return float(value) if isinstance(value, float) and math.isfinite(value) else self._text(str(value))

    def _text(self, text: str) -> str:
        kept = text[: max(self.left, 0)]
        self.left -= len(kept)
        cut = len(text) - len(kept)
        return f"{kept} (cut: {cut:,} more characters)" if cut else kept

    def _object(self, fields: dict[Any, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, (key, value) in enumerate(fields.items()):
            if self.left <= 0:
                found["(cut)"] = f"{len(fields) - number:,} more fields"
                break
            name = self._text(str(key))  # before its value, which may take all that is left
            found[name] = self.of(value)
        return found

    def _list(self, values: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for number, value in enumerate(values):
            if self.left <= 0:
                found.append(f"(cut: {len(values) - number:,} more values)")
                break
            found.append(self.of(value))
        return found


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


def left_beside(output: Path) -> Path:
    """The folder beside an output in which the rejected rows stay where there were too many of them."""
    return output.with_name(f"{output.name}.quarantine")


def leave_beside(output: Path, folders: Iterable[Path]) -> Path | None:
    """Gathers the rejected rows beside an output that isn't written; where, or None where something else is there."""
    target = left_beside(output)
    remove_beside(output)
    if target.exists():
        return None
    gather(folders, target)
    return target


def remove_beside(output: Path) -> None:
    """Removes what an earlier `leave_beside` left, and nothing else."""
    target = left_beside(output)
    if (target / ROWS).is_file() and {path.name for path in target.iterdir()} <= {ROWS, "images"}:
        shutil.rmtree(target)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name of the file where the disk can do that, else a copy; the first is left for a later `--resume`."""
    try:
        os.link(source, target)
    except OSError:
        temporary = target.with_name(f".{target.name}.tmp")
        temporary.write_bytes(source.read_bytes())
        os.replace(temporary, target)
