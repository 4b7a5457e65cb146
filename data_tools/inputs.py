"""The files that a data set was made from, and whether they are still what they were."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_tools.errors import UserError


def file_hashes(readers: Iterable[tuple[str, Sequence[Path]]]) -> list[dict[str, Any]]:
    """A row for each file that a source or remedy of a name reads: source, path, size in bytes and sha256.

    Raises:
        UserError: a file can't be read.
    """
    rows = []
    for name, files in readers:
        for path in files:
            try:
                rows.append({"source": name, "path": str(path), **_look(path)})
            except OSError as error:
                raise UserError(f"{path}: can't be read ({error.strerror or error})") from error
    return rows


def changed_files(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The paths, of what `file_hashes` gave, whose content is another now. A file that is gone isn't among them: a data
    set can be used without what it was made from.
    """
    changed = []
    for row in rows:
        try:
            size = Path(row["path"]).stat().st_size
            if size != row["bytes"] or _look(Path(row["path"]))["sha256"] != row["sha256"]:
                changed.append(row["path"])
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(f"{row['path']}: can't be read ({error.strerror or error})") from error
    return changed


def did_you_mean(path: Path, pattern: str = "*") -> str:
    """A hint, with a space before it, at the nearest name beside a path that isn't there; empty where none is near."""
    names = [item.name for item in path.parent.glob(pattern) if item.name != path.name]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def _look(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
