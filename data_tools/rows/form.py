"""Which form a file has: by how its content begins, and only where that says nothing, by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_tools.errors import UserError
from data_tools.image_kinds import IMAGE_ENDINGS
from data_tools.rows.arrow import is_arrow
from data_tools.rows.json_list import list_keys
from data_tools.rows.members import is_tar
from data_tools.rows.parquet import MAGIC, parquet_pieces
from data_tools.rows.piece import Piece
from data_tools.rows.split import choose_splits
from data_tools.rows.stream import head, is_gzip
from data_tools.rows.text import is_list, is_lists, is_object, line_pieces
from data_tools.rows.unread import what_else

KNOWN = (
    "JSON lines or a JSON list (.json, .jsonl, .ndjson), Parquet, Arrow, WebDataset tars, and all but Parquet and "
    "Arrow also gzipped (.gz, .tgz)"
)
_TEXTS = (".json", ".jsonl", ".ndjson", ".jsonlines")
_BINARIES = (".parquet", ".arrow", ".tar", ".tgz")
_PACKERS = (".zst", ".bz2", ".xz", ".lz4", ".lzma", ".br", ".zip", ".7z")
_OTHERS = (
    *_PACKERS,
    ".rar",
    ".csv",
    ".tsv",
    ".xlsx",
    ".xls",
    ".txt.gz",
    ".pkl",
    ".npz",
    ".lance",
    ".db",
    ".sqlite",
)
_ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "croissant.json")
_LISTS_ONLY = ("data", "rows")  # fields of a JSON object of lists that name no split
_PACKED = {
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
}
_POINTER = b"version https://git-lfs"


def file_pieces(path: Path, place: str, split: str | None, inside: bool = False) -> Iterator[Piece]:
    """The pieces of a file; none for one that lies `inside` a folder source and holds no rows.

    `split` chooses among the lists of a JSON object, the one form of a file that has splits. Which split the other
    files of a folder are of is told by their names, and left to its reader.

    Raises:
        UserError: it isn't what its name says; or of no known form, unless `inside`.
    """
    if inside and (path.suffix.lower().removeprefix(".") in IMAGE_ENDINGS or path.name in _ABOUT):
        return
    if inside and _is_packed_rows(path.name):
        raise UserError(
            f"{path}: rows packed in a way that isn't read here, so that the folder would be read only in part; unpack "
            "it, remove it from the folder, or name the files of rows themselves"
        )
    begin, name = head(path), path.name.lower().removesuffix(".gz")
    packed = is_gzip(path)
    if is_lists(begin):
        for key in choose_splits(list_keys(path), split, path):
            yield Piece(str(path), "list", place, key=key, split=None if key in _LISTS_ONLY else key)
        return
    found = tuple(_without_splits(path, place, begin, name, packed, inside))
    if found and split is not None and not inside:
        raise UserError(
            f"{path}: has no splits, so not {split!r} either; leave split out, or name the files of that split "
            "(splits are those of a hub data set, a folder of datasets.DatasetDict, or a JSON object of lists)"
        )
    yield from found


def is_passed_over(name: str) -> bool:
    """Whether a file of this name, in a folder of rows, may well hold rows but isn't read, which is to be told."""
    return name.lower().endswith(_OTHERS)


def _is_packed_rows(name: str) -> bool:
    stem, _, packer = name.lower().rpartition(".")
    return f".{packer}" in _PACKERS and stem.endswith((*_TEXTS, *_BINARIES))


def _without_splits(
    path: Path, place: str, begin: bytes, name: str, packed: bool, inside: bool
) -> Iterator[Piece]:
    if begin.startswith(MAGIC) or is_arrow(begin):
        if packed:
            raise UserError(f"{path}: a gzipped Parquet or Arrow file; unpack it first (gunzip)")
        if begin.startswith(MAGIC):
            yield from parquet_pieces(path, place)
        else:
            yield Piece(str(path), "arrow", place)
    elif is_tar(begin) or (name.endswith((".tar", ".tgz")) and begin and not begin.strip(b"\0")):
        yield Piece(str(path), "tar", place)
    elif not inside or name.endswith((*_TEXTS, *_BINARIES)):
        yield from _text_pieces(path, place, begin, name, inside)


def _text_pieces(path: Path, place: str, begin: bytes, name: str, inside: bool) -> Iterator[Piece]:
    """The pieces of a file that doesn't begin as any binary form does."""
    if begin.startswith(_POINTER):
        raise UserError(f"{path}: only a Git LFS pointer to the file; fetch the file itself (git lfs pull)")
    if what := what_else(name, begin):
        raise UserError(f"{path}: is {what}")
    if name.endswith(_BINARIES):
        raise UserError(
            f"{path}: doesn't begin as its name says, so it is damaged; fetch it again, or remove it"
        )
    if is_list(begin):
        yield Piece(str(path), "list", place)
    elif is_object(begin):
        if not inside:  # in a folder it tells of the data, like dataset_infos.json
            raise UserError(
                f"{path}: one JSON object over several lines, which is no set of rows; write the rows as one JSON "
                "list, or one row a line"
            )
    elif name.endswith(_TEXTS) or b"\0" not in begin:
        yield from line_pieces(path, place)
    else:
        packer = next((packer for magic, packer in _PACKED.items() if begin.startswith(magic)), None)
        what = f"packed with {packer}; unpack it first" if packer else f"of no form that is read: {KNOWN}"
        raise UserError(f"{path}: {what}")
