"""Hashes of the files of a folder that was saved, beside them, so that damage is noticed when they are read."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from data_tools.errors import UserError

HASHES = "sha256.json"


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_hashes(folder: Path) -> None:
    """Writes `folder/sha256.json`: the hash of every other file in the folder and below it, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / HASHES)
    row = {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
    (folder / HASHES).write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def check_hashes(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Sees that the files of a folder, those whose paths are `wanted`, are as they were saved. A folder without hashes,
    such as one of the hub, is taken as it is.

    Raises:
        UserError: a file was changed or is gone, or the list of hashes is damaged.
    """
    path = folder / HASHES
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise ValueError("it is no list of hashes")
    except (FileNotFoundError, NotADirectoryError):
        return
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); {_remedy(path)}") from error
    for name, expected in row.items():
        if not wanted(name):
            continue
        file = folder / name
        try:
            stat = file.stat()
            same = _hash_at(file, stat.st_size, stat.st_mtime_ns) == expected
        except OSError as error:
            raise UserError(f"{file}: can't be read ({error.strerror}); {_remedy(path)}") from error
        if not same:
            raise UserError(f"{file}: isn't as it was saved (its hash is another); {_remedy(path)}")


def _remedy(path: Path) -> str:
    return f"make it anew or copy it again, or, where the change is meant, delete {path}"


@functools.lru_cache(maxsize=1024)
def _hash_at(path: Path, size: int, modified_ns: int) -> str:
    """The hash of a file as it is: a run reads a model several times."""
    return hash_file(path)
