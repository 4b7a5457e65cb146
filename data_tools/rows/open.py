"""From a source to the rows that lie there: a file, a folder of files, or the name of a data set on the hub.

Which form a file has is told in `data_tools.rows.form`. A row's place is the file's name (below the folder, where the
source is one) and the row's number, line or key in it, however the file is divided into pieces. Nothing but local files
is opened here; only a name on the hub is fetched, by `datasets`. Left out on purpose: addresses, and commands such as
`pipe:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.inputs import did_you_mean
from data_tools.rows.arrow import DICT, STATE, arrow_rows, is_saved, saved_files, saved_splits
from data_tools.rows.form import KNOWN, file_pieces, is_passed_over
from data_tools.rows.hub import hub_pieces, image_caches, is_hub_name
from data_tools.rows.parquet import parquet_rows
from data_tools.rows.piece import Piece
from data_tools.rows.split import TRAIN, choose_splits, named_split
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
    wrote, of a JSON object of lists, or of a folder whose files' names tell it, and `all` means every one.

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
            return tuple(file_pieces(source, _plain(source.name), split))
        found = _in_named_splits(
            tuple(_folder_pieces(source, source, split, (source.resolve(),))), source, split
        )
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
            for piece in _folder_pieces(_inside(folder / name, root), root, None, above):
                yield replace(piece, split=name)
    elif (folder / STATE).is_file():
        for path in saved_files(folder):
            yield from file_pieces(_inside(path, root), _place(path, root), None)
    else:
        for path in _listed(folder):
            if path.is_dir():
                if (real := _inside(path, root).resolve()) not in above:
                    yield from _folder_pieces(path, root, split, (*above, real))
            elif (
                path.is_file() or path.is_symlink()
            ):  # a link to nothing is an error, a pipe would wait for ever
                yield from file_pieces(_inside(path, root), _place(path, root), split, inside=True)


def _in_named_splits(found: tuple[Piece, ...], source: Path, split: str | None) -> tuple[Piece, ...]:
    """The pieces of a folder that are of the wanted split: the one that the data say, else the one that the files'
    names tell of. Where some names tell of one, the files whose names don't are of `train`.

    Raises:
        UserError: the names tell of several splits and none is chosen, of no such one, or of none at all.
    """
    named = {piece.place: named_split(piece.place) for piece in found if piece.split is None}
    if not named:
        return found
    if not any(named.values()):
        if split is not None and len(named) == len({piece.place for piece in found}):
            raise UserError(
                f"{source}: has no splits, so not {split!r} either; leave split out, or name the files of that split "
                "(splits are those of a hub data set, a folder of datasets.DatasetDict, a JSON object of lists, or a "
                "folder whose files' names tell of train, validation or test)"
            )
        return found
    splits = {place: name or TRAIN for place, name in named.items()}
    chosen = choose_splits(sorted(set(splits.values())), split, source)
    return tuple(
        piece if piece.split is not None else replace(piece, split=splits[piece.place])
        for piece in found
        if piece.split is not None or splits[piece.place] in chosen
    )


def _listed(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def _place(path: Path, root: Path) -> str:
    return _plain(path.relative_to(root).as_posix())


def _plain(name: str) -> str:
    """The file's name; raises UserError where it isn't UTF-8, as the places of its rows could then not be told."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{name!a}: the file's name isn't UTF-8; rename it") from None
    return name


def _inside(path: Path, root: Path) -> Path:
    """The path itself; refuses links that lead out of the source's folder, as in an archive that somebody else made:
    what lies there would be read as rows, and stand in the quarantine. Links into the blobs beside the `snapshots` of
    the hub's own cache are what that is made of.
    """
    if not path.is_symlink():
        return path
    real, top = path.resolve(), root.resolve()
    if real.is_relative_to(top):
        return path
    cache = next((above.parent for above in top.parents if above.name == "snapshots"), None)
    if cache is not None and real.is_relative_to(cache / "blobs"):
        return path
    raise UserError(
        f"{path}: a link that leads out of the folder {root}, to {real}; put what it names in its place, or name that "
        "itself as the source"
    )


def passed_over(source: Path) -> list[str]:
    """The files of a folder source that aren't read though they may hold rows (tables of text, archives), by their
    names below it. Raises OSError as listing a folder does.
    """
    found: list[str] = []
    waiting = [source] if source.is_dir() and not is_saved(source) else []
    while waiting:
        folder = waiting.pop()
        for path in _listed(folder):
            if path.is_dir():
                if not path.is_symlink() and not is_saved(path):
                    waiting.append(path)
            elif is_passed_over(path.name):
                found.append(path.relative_to(source).as_posix())
    return sorted(found)


def image_folders(source: Path) -> tuple[Path, ...]:
    """The folders that the image paths in a source's rows lie in, and relative ones begin in the first of: the source
    itself, or what a file lies in.
    """
    if is_hub_name(source):
        return image_caches(source.as_posix())
    return (source if source.is_dir() else source.parent,)


def image_folder(source: Path) -> Path:
    """The folder that the relative image paths in a source's rows begin in."""
    return image_folders(source)[0]


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
