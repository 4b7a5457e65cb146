"""Whether a field names a picture that was read from its row, so that it holds no other one.

Public rows say beside a picture what it is called and where it comes from: `url`, `file_name`, `image_id`, `source`, or
its path once more. Such a field is kept as a text in the provenance.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from data_tools.adapters.media_kinds import medium_of, named_medium, words_of
from data_tools.adapters.watched import Watched
from data_tools.base64_images import first_bytes, is_data_address

_IDENTIFIERS = frozenset(("id", "ids", "uid", "uuid", "idx", "index", "key", "keys"))
_ADDRESSES = frozenset(("url", "urls", "uri", "uris", "link", "links", "href"))
_SOURCES = frozenset(("source", "src", "origin", "filename", "fname", "name"))
_PATHS = frozenset(
    ("path", "filepath", "file", "filename", "name", "paths", "filepaths", "files", "filenames", "names")
)
_PICTURES = frozenset(("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pic"))
# beside the word that says what a name is for, what leaves it that of the one picture; `second_url` is another's
_PLAIN = frozenset(
    (
        *(*_PICTURES, "source", "src", "origin", "original", "orig", "coco", "flickr", "web", "page"),
        *("download", "dataset", "data", "file", "full"),
    )
)
_LONGEST = 300  # characters of a path or an address


class ReadPictures:
    """The pictures that were read from a row: how many, and what the row calls them."""

    def __init__(self, row: Watched, number: int) -> None:
        self.row, self.number = row, number

    def are_named_by(self, key: Any, value: Any) -> bool:
        """Whether a field that wasn't read says no more than which pictures these are: its name is that of an
        identifier, an address or a source (a video's, too, of which the picture is a frame), or its paths end as those
        that were read. A field with a word such as `rejected` or `side` in its name may show the same picture in
        another place.
        """
        texts = _texts_of(value)
        if not self.number or not texts or any(map(_holds_bytes, texts)):
            return False
        if _is_naming(key):
            return True
        plain = set(words_of(key)) <= _PATHS | _PLAIN
        may_name = plain or (isinstance(value, str) and named_medium(key) is None)
        if may_name and all(any(_end_alike(_parts(text), name) for name in self.names) for text in texts):
            return True
        # the only picture, of which the row has the bytes, and the only path that isn't a name of these
        only = self.number == len(texts) == 1 and not any(by_path for _, by_path in self._named)
        return plain and only and _is_path(key)

    @cached_property
    def names(self) -> set[tuple[str, ...]]:
        """The paths that were read, each as its parts."""
        return {_parts(name) for name, _ in self._named}

    @cached_property
    def _named(self) -> set[tuple[str, bool]]:
        return set(_names_in(self.row))


def _is_naming(key: Any) -> bool:
    words = words_of(key)
    if not words:
        return False
    rest = set(words) - _PLAIN
    return (
        words[-1] in _IDENTIFIERS
        or (bool(rest) and rest <= _ADDRESSES)
        or (
            named_medium(key) is None and not _SOURCES.isdisjoint(words) and _SOURCES | {"file"} >= set(words)
        )
    )


def _is_path(key: Any) -> bool:
    return not _PATHS.isdisjoint(words_of(key))


def _texts_of(value: Any) -> list[str]:
    """The texts that a field comes to; none where it holds anything else."""
    if isinstance(value, dict):
        value = [value.get("path")] if set(value) <= {"bytes", "path"} and not value.get("bytes") else None
    items = value if isinstance(value, list) else [value]
    texts = [item["path"] if _is_bare(item) else item for item in items if item is not None]
    return texts if all(isinstance(text, str) for text in texts) else []


def _is_bare(item: Any) -> bool:
    """Whether an item is a picture's struct with its path alone."""
    return (
        isinstance(item, dict) and set(item) <= {"bytes", "path"} and not item.get("bytes") and "path" in item
    )


def _holds_bytes(text: str) -> bool:
    return len(text) > _LONGEST or is_data_address(text) or bool(first_bytes(text))


def _names_in(row: Watched) -> Iterator[tuple[str, bool]]:
    """The paths of pictures in the fields that were asked for, and of each whether the picture was read by it: beside
    bytes it is a name only.
    """
    for key in row.asked:
        value = dict.get(row, key)
        if named_medium(key) == "picture":
            yield from _leaves(value)
        else:
            yield from _read_paths(row.inner.get(key, value))


def _read_paths(value: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(value, Watched):
        if "bytes" in value.asked:
            yield from _leaves(value)
        for row in [value] if value.rows is None else value.rows:
            yield from _names_in(row)
    elif isinstance(value, list):
        for item in value:
            yield from _read_paths(item)
    elif isinstance(value, str) and medium_of(value) == "picture" and not _holds_bytes(value):
        yield value, True


def _leaves(value: Any) -> Iterator[tuple[str, bool]]:
    """The paths in a field of pictures: texts, also in lists, and those of `{"bytes": ..., "path": ...}`."""
    if isinstance(value, str):
        if value.strip() and not _holds_bytes(value):
            yield value, True
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        by_path = not dict.get(value, "bytes")
        yield from ((name, by_path) for name, _ in _leaves(dict.get(value, "path")))


def _parts(text: str) -> tuple[str, ...]:
    """A path or an address as its parts, without what may follow `?` or `#`."""
    path = text.strip().partition("?")[0].partition("#")[0].replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", ".", "file:"))


def _end_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one is the end of the other: `train/a.png` and `coco/train/a.png` are one file, `left/a.png` and
    `right/a.png` two.
    """
    length = min(len(one), len(other))
    return length > 0 and one[-length:] == other[-length:]
