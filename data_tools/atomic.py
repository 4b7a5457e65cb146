"""Files that appear whole or not at all, and a full disk told in words."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from data_tools.errors import UserError

# a place that can't be written to: no right to, or a file where a folder should be, or the other way round
FORBIDDEN = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 under a temporary name, syncs it, and renames it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that takes the name `out` at the end, or is removed where that isn't reached.

    Raises:
        UserError: `out` exists and isn't an empty folder, or the disk is full or can't be written to.
    """
    _check_free(out)
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    try:
        with writing_to(out):
            temporary.mkdir(parents=True)
            yield temporary
            _check_free(out)  # once more: another process may have been quicker
            put_folder(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists already; choose another folder with -o")


def put_folder(temporary: Path, folder: Path) -> None:
    """Gives a finished folder its name, in the place of what is there, once all of it is on the disk: after a power cut
    there is the folder before or this one, with all its files.

    Linux and most of its file systems swap the two at once. Elsewhere the name is missing for a moment, in which the
    folder before is whole beside it, where `restore_folder` finds it.
    """
    sync_tree(temporary)
    restore_folder(folder)
    old = _beside(folder)
    if folder.exists() and _swap(temporary, folder):
        sync_folder(folder.parent)
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        try:
            if folder.exists():
                os.replace(folder, old)
            os.replace(temporary, folder)
        except BaseException:
            restore_folder(folder)
            raise
        sync_folder(folder.parent)
    _remove(old)


def is_put_aside(folder: Path) -> bool:
    """Whether a process that was killed put the folder aside, and no other in its place."""
    # `os.path.exists` is False of a name that is too long, of which the first writing tells
    return os.path.exists(_beside(folder)) and not os.path.exists(folder)


def restore_folder(folder: Path) -> None:
    """Gives a folder its name back where `put_folder` was killed before it gave it to another, and removes it where it
    was killed afterwards. No other process may be putting the folder.
    """
    if is_put_aside(folder):
        os.replace(_beside(folder), folder)
        sync_folder(folder.parent)
    _remove(_beside(folder))


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _remove(old: Path) -> None:
    """Removes a folder under a name of no meaning, so that half of it is never taken for it."""
    waste = old.with_suffix(".waste")
    shutil.rmtree(waste, ignore_errors=True)
    if old.exists():
        os.replace(old, waste)
        shutil.rmtree(waste, ignore_errors=True)


def _swap(one: Path, other: Path) -> bool:
    """Whether the two could be given each other's name at once, which needs Linux and a file system that can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # not in every C library
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def sync_tree(folder: Path) -> None:
    """Puts every file in a folder and below it on the disk, and their names."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(path) / name)
        sync_folder(Path(path))


def sync_file(path: Path) -> None:
    """Puts a file's bytes on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, so that a file that was renamed there still has its name after a power
    cut. Where there is no way to, as on Windows and some network file systems, it does nothing.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing_to(directory: Path) -> Iterator[None]:
    """Turns the errors of a full or forbidden disk into a `UserError` that names the directory."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{directory}: the disk is full; free some space or choose another folder"
            ) from error
        if error.errno in FORBIDDEN:
            raise UserError(
                f"{directory}: can't be written to ({error.strerror}); choose another place"
            ) from error
        raise
