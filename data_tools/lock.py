"""One process at a time writes into a folder.

The lock is the kernel's, on a file beside the folder, and ends with the process, however that ends; it holds across
machines where the file system has such locks, as NFS does. On one that has none, the file itself is the lock: it names
the process, and one that is dead on the same machine is passed over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from data_tools.atomic import writing_to
from data_tools.errors import UserError

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


@contextlib.contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Holds a folder, which needn't be there yet, while it lasts. `doing` says what is done: "building",
    "evaluating into".

    Raises:
        UserError: another process holds it; the message names the process and its machine.
    """
    path = folder.parent / f".{folder.name}.lock"
    with writing_to(folder):
        if folder.parent.is_file():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(path, folder, doing)
    try:
        yield
    finally:
        if not isinstance(lock, SoftFileLock):  # which removes its file itself
            path.unlink(missing_ok=True)
        lock.release()


def _acquire(path: Path, folder: Path, doing: str) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no locks and the file itself is one
            try:
                lock.acquire(timeout=0)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                path = path.with_suffix(".held")
                lock = SoftFileLock(path)
                lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{folder}: another process is {doing} it ({_holder(path)}); wait for it, or end it. Where it is gone from "
            f"a machine that can't be asked, remove {path}"
        ) from None
    if not isinstance(lock, SoftFileLock):
        path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    return lock


def _holder(path: Path) -> str:
    try:
        pid, host, *_ = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "it hasn't said which"
    return f"process {pid} on {host}"
