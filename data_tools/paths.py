"""Paths as people write them in configs and commands: `~`, `$NAME` and `file://` in them mean the same everywhere.

Paths in the rows of data aren't among them: rows come from others, and say nothing about this machine's variables.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data_tools.errors import UserError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))", re.ASCII)
_FILE = re.compile(r"\s*file:/", re.IGNORECASE)


def expand_path(text: str) -> str:
    """The path with `~`, `~user`, `$NAME` and `${NAME}` replaced by what they stand for, and a `file://` address as the
    path of its file. The name of a file that is there stays as it is, whatever stands in it.

    Raises:
        UserError: a variable isn't set, there is no such user, or the address is of another machine.
    """
    if os.path.lexists(text):
        return text
    path = file_address(text) or text
    path = _VARIABLE.sub(lambda match: _variable(match[1] or match[2], text), path)
    if not path.startswith("~"):
        return path
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise UserError(
            f"{text}: there is no home folder of {path.partition('/')[0]!r}; write the path out, or ./{path} for a "
            "name that begins so"
        )
    return full


def user_path(text: str | Path) -> Path:
    """`expand_path` as a path: what reads each path of a command line (`parser=` of typer)."""
    return Path(expand_path(str(text)))


def file_address(text: str) -> str | None:
    """The path that a `file:` address names; None for any other text.

    Raises:
        UserError: it names another machine.
    """
    if not _FILE.match(text):
        return None
    parts = urlsplit(text.strip())
    if parts.netloc not in ("", "localhost"):
        raise UserError(
            f"{text[:80]}: names the machine {parts.netloc!r}; write file:///folder/name, or the path itself"
        )
    return unquote(parts.path)


def _variable(name: str, text: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise UserError(f"{text}: the environment variable {name} isn't set; set it, or write the path out")
    return value
