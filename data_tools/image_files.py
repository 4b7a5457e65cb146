"""The files that images lie in: below a folder, and nowhere else where one is named."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from data_tools.errors import UserError
from data_tools.image_limits import ImageError, ImageLimits, current_limits
from data_tools.paths import file_address
from data_tools.schema import ImageRef

URL = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]+:(//|[^/\\\s])")  # a scheme; one letter is a Windows drive
NO_FILE = "no such image file"
OUTSIDE = "leaves the image folder"
_BACKSLASHES = "; its path has backslashes, as on Windows: write / in their place"
_TILDE = re.compile(r"(?:^|/)~[^/]*/")
_HOME = "; paths in rows aren't expanded: write ~ out"


def read_bytes(ref: ImageRef, root: Path | None = None, limits: ImageLimits | None = None) -> bytes:
    """The encoded bytes of an image held in memory or in a local file (below `root`, where given).

    Raises:
        ImageError: a URL, no such file, a path that leaves `root`, too many bytes, or not the bytes of its
            hash.
    """
    if ref.data is not None:
        return ref.data
    assert ref.path is not None
    path = local_path(ref.path, root)
    try:
        if not path.is_file():
            raise _missing(path, NO_FILE + _hint(ref.path))
        _check_bytes(path, limits or current_limits())
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        # the error's own text may end with the path, which is then all that is left of it
        raise _missing(path, f"can't be read ({_words(error)})") from error
    if ref.sha256 and hashlib.sha256(data).hexdigest() != ref.sha256:
        why = "has changed since it was indexed (another sha256)"
        raise ImageError(f"{path}: {why}", reason=why)
    return data


def local_path(name: str, root: Path | None = None) -> Path:
    """The file that `name`, a path or a `file://` address, names, below `root` where given.

    Raises:
        ImageError: another address, a path that leaves `root`, or none.
    """
    path = _path(name)
    if root is None:
        return Path(path)
    joined = os.path.join(root, path)
    try:
        inside = os.path.join(_real(str(root)), "")
        # links of a folder are followed once, not for each of its pictures
        real = os.path.join(_real(os.path.dirname(joined)), os.path.basename(joined))
        if os.path.islink(real) or os.path.basename(joined) in ("", ".", ".."):
            real = os.path.realpath(joined)
    except (OSError, ValueError, RuntimeError) as error:
        why = f"not a path ({_words(error)})"
        raise ImageError(f"{name[:80]!r}: {why}", "image-missing", f"is {why}") from error
    if not real.startswith(inside):
        raise ImageError(f"{name[:80]}: {OUTSIDE} {root}", "image-outside", OUTSIDE)
    return Path(joined)


def _path(name: str) -> str:
    try:
        address = file_address(name)
    except UserError as error:
        raise ImageError(str(error), "image-url", "is a file:// address of another machine") from error
    if address is None and URL.match(name):
        why = "is a URL; images are read from local files only"
        raise ImageError(f"{name[:80]}: {why}", "image-url", why)
    return name if address is None else address


def _check_bytes(path: Path, limits: ImageLimits) -> None:
    try:
        limits.check_bytes(path.stat().st_size)
    except ImageError as error:
        raise ImageError(f"{path}: {error}", error.code, error.reason) from None


def _missing(path: Path, why: str) -> ImageError:
    return ImageError(f"{path}: {why}", "image-missing", why)


def _hint(name: str) -> str:
    return _BACKSLASHES if "\\" in name else _HOME if _TILDE.search(name) else ""


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
