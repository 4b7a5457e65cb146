"""From a source to the rows that lie there: a file, a folder of files, or the name of a data set on the hub.

Which form a file has is told in `data_tools.rows.form`. A row's place is the file's name (below the folder, where the
source is one) and the row's number, line or key in it, however the file is divided into pieces. Nothing but local files
is opened here; only a name on the hub is fetched, by `datasets`. Left out on purpose: addresses, and commands such as
`pipe:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.inputs import did_you_mean
from data_tools.rows.arrow import DICT, STATE, arrow_rows, saved_files, saved_splits
from data_tools.rows.form import KNOWN, file_pieces
from data_tools.rows.hub import hub_pieces, image_cache, is_hub_name
from data_tools.rows.parquet import parquet_rows
from data_tools.rows.piece import Piece
from data_tools.rows.split import choose_splits
from data_tools.rows.tar import tar_rows
from data_tools.rows.text import line_rows, list_rows
from data_tools.source import Rejected

_ADDRESS = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.-]+:")  # a scheme; one letter is a Windows drive
_READERS = {
    "lines": line_rows,
    "list": list_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
    "tar": tar_rows,
}


def pieces(source: Path, subset: str | None = None, split: str | None = None) -> tuple[Piece, ...]:
    """The pieces of a source's files, in the order of their rows.

    `subset` is that of a hub data set; `split` one of a hub data set, of a folder that `DatasetDict.save_to_disk`
    wrote, or of a JSON object of lists, and `all` means every one.

    Raises:
        UserError: there is nothing that can be read, or no such subset or split.
    """
    if is_hub_name(source):
        return tuple(hub_pieces(source.as_posix(), subset, split))
    if _ADDRESS.match(str(source)) and not source.exists():
        raise UserError(
            f"{source}: is an address or a command, which is never opened; name a local file or folder, or a data set "
            "of the hub as org/name"
        )
    if subset is not None:
        raise UserError(
            f"{source}: has no subset {subset!r}; only data sets of the hub, named org/name, have any"
        )
    try:
        if not source.is_dir():
            if source.exists() and not source.is_file():
                raise UserError(
                    f"{source}: is a device or a pipe, which is never opened; name a file or folder"
                )
            return tuple(file_pieces(source, source.name, split))
        found = tuple(_folder_pieces(source, source, split, (source.resolve(),)))
    except OSError as error:
        path = Path(error.filename or source)
        near = did_you_mean(path) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{path}: can't be read ({error.strerror or error}){near and '.' + near}") from error
    if not found:
        raise UserError(f"{source}: no file of rows lies in this folder; looked for {KNOWN}")
    return found


def _folder_pieces(folder: Path, root: Path, split: str | None, above: tuple[Path, ...]) -> Iterator[Piece]:
    """The pieces below a folder, sorted by name. Hidden files and folders aren't looked at, nor links to a folder that
    they lie in (`above`: the folders on the way here).
    """
    if (folder / DICT).is_file():
        for name in choose_splits(saved_splits(folder), split, folder):
            yield from _folder_pieces(folder / name, root, None, above)
    elif (folder / STATE).is_file():
        for path in saved_files(folder):
            yield from file_pieces(path, path.relative_to(root).as_posix(), split)
    else:
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if (real := path.resolve()) not in above:
                    yield from _folder_pieces(path, root, split, (*above, real))
            elif (
                path.is_file() or path.is_symlink()
            ):  # a link to nothing is an error, a pipe would wait for ever
                yield from file_pieces(path, path.relative_to(root).as_posix(), split, inside=True)


def image_folder(source: Path) -> Path:
    """The folder that the image paths in a source's rows begin in: the source itself, or what a file lies in."""
    if is_hub_name(source):
        return image_cache()
    return source if source.is_dir() else source.parent


def all_rows(
    source: Path, subset: str | None = None, split: str | None = None
) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of all pieces, one after the other; raises as `pieces` and `read_rows` do."""
    for piece in pieces(source, subset, split):
        yield from read_rows(piece)


def read_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """Each row of a piece with its place (such as `file:line`), or why it can't be read.

    Raises:
        UserError: the file can't be read, or not as what it is.
    """
    try:
        yield from _READERS[piece.form](piece)
    except OSError as error:
        raise UserError(f"{piece.path}: can't be read ({error.strerror or error})") from error
