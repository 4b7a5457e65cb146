"""Pictures, videos and sounds of a row that its adapter doesn't read: the row is refused, not cut.

It is one mechanism for all adapters, a user's own among them: a row is handed out as a `Watched` dict, which notes the
fields that are asked for, at every depth, and `unread_media` then looks through the others. What holds media is told by
name and by value (`data_tools.adapters.media_kinds`).

A field that only says which picture it is that was read, or where that came from (`url`, `file_name`, `image_id`, the
same path once more), is no second picture.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from data_tools.adapters.media_kinds import (
    Medium,
    holds_something,
    medium_in,
    medium_of,
    named_medium,
)
from data_tools.adapters.picture_names import ReadPictures
from data_tools.adapters.row_error import RowError
from data_tools.adapters.watched import Watched

__all__ = [
    "Watched",
    "holds_something",
    "named_medium",
    "refuse_unread_media",
    "unread_media",
    "without_fields",
]

_STRUCT = frozenset(("bytes", "path"))  # of a picture, as `datasets` hands it out
_DEEPEST = 6  # lists and objects in one another that are looked through
_EMPTY = frozenset((type(None), bool, int, float))  # types of values that hold nothing
_FEW = 64  # items that are looked at, of a list that wasn't read


class Unread(NamedTuple):
    """A field that holds media and wasn't asked for; one inside another is named `outer.inner`."""

    name: str
    key: Any
    value: Any
    medium: Medium
    listed: bool  # whether it is in a list of objects, so that `outer.inner` names several


def refuse_unread_media(
    row: Watched, images: int, adapter: str, pictures: Collection[str], named_by: str | None = None
) -> None:
    """Raises RowError where the row, of which `images` pictures were read, holds media in a field that `adapter`, which
    reads `pictures`, didn't ask for. `named_by` is the setting that names the fields of pictures, of adapters with one.
    """
    unread = unread_media(row, images)
    if unread is None:
        return
    field, leave = unread.name[:60], "name it in ignore_fields to leave it out"
    if unread.medium != "picture":
        raise RowError(
            f"has a {unread.medium} in its field {field}, which no record can hold; {leave}", "other-modality"
        )
    shown = [
        key for key in row if key in row.asked and named_medium(key) and holds_something(dict.get(row, key))
    ]
    if shown:
        raise RowError(
            f"has pictures in {shown[0]} and in {field}, and only one field is read; {leave}", "media-unread"
        )
    reads = f"it reads {', '.join(pictures)}" if pictures else "it reads no pictures"
    if unread.listed:
        do = "move it to a field of the row itself"
    elif named_by:
        do = f"name it with the setting {named_by}"
    else:
        do = f"rename it, convert with --from columns --set image={field}"
    raise RowError(
        f"has a picture in its field {field}, which {adapter} doesn't read ({reads}): {do}, or {leave}",
        "media-unread",
    )


def unread_media(row: Watched, images: int = 0) -> Unread | None:
    """The first field of a row that holds a picture, a video or a sound and wasn't asked for; None where there is none.
    `images` are the pictures that were read.
    """
    found: list[Unread] = []
    _add_unread(row, "", False, found)
    read = ReadPictures(row, images)
    return next((unread for unread in found if not read.are_named_by(unread.key, unread.value)), None)


def without_fields(row: dict[str, Any], names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The row without the fields of these names (`outer.inner` for one in an object, or in each of a list of them), and
    the names of those that it had.
    """
    left: list[str] = []
    for name in names:
        shorter = _without(row, name)
        if shorter is not row:
            row = shorter
            left.append(name)
    return row, left


def _without(value: Any, name: str, depth: int = _DEEPEST) -> Any:
    """The value without a field; itself where it hasn't the field."""
    if isinstance(value, list) and depth:
        items = [_without(item, name, depth - 1) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if not isinstance(value, dict):
        return value
    if name in value:
        return {key: item for key, item in value.items() if key != name}
    places = (place for place, letter in enumerate(name) if letter == ".")
    for outer, inner in ((name[:place], name[place + 1 :]) for place in places):
        if outer in value and (shorter := _without(value[outer], inner)) is not value[outer]:
            return {**value, outer: shorter}
    return value


def _add_unread(row: Watched, outer: str, listed: bool, found: list[Unread]) -> None:
    """Adds the fields with media that weren't asked for, of a row or an object of which some fields were."""
    asked, inner = row.asked, row.inner
    with_bytes = "bytes" in asked  # of a picture, which the path beside them names
    for key, value in dict.items(row):
        if key in asked:
            if key in inner and named_medium(key) is None:
                _add_inside(f"{outer}{key}", inner[key], listed, found)
        elif type(value) not in _EMPTY and not (with_bytes and key == "path"):
            _add_media(key, value, outer, 0, listed, found)
    for key in row.taken:
        _add_inside(f"{outer}{key}", row.taken[key], listed, found)


def _add_inside(name: str, value: Any, listed: bool, found: list[Unread]) -> None:
    """The same inside a field that was asked for. What is in an object of which no field was, was taken as it is, so
    that only the names in it count.
    """
    if isinstance(value, Watched):
        if value.rows is not None:
            for row in value.rows:
                _add_unread(row, f"{name}.", True, found)
        elif not value.asked:
            _add_media_inside(name, value, 1, listed, False, found)
        elif len(value) > len(_STRUCT) or not _STRUCT.issuperset(value):
            _add_unread(value, f"{name}.", listed, found)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Watched | list):
                _add_inside(name, item, True, found)


def _add_media(
    key: Any, value: Any, outer: str, depth: int, listed: bool, found: list[Unread], by_value: bool = True
) -> None:
    """Adds what holds media in a field; the field itself where its name says so."""
    medium = medium_in(key, value)
    if medium is None and by_value:
        medium = _medium_of_struct(value) if isinstance(value, dict) else medium_of(value)
    if medium is not None:
        found.append(Unread(f"{outer}{key}", key, value, medium, listed))
    elif isinstance(value, dict | list):
        _add_media_inside(f"{outer}{key}", value, depth + 1, listed, by_value, found)


def _add_media_inside(
    name: str,
    value: dict[Any, Any] | list[Any],
    depth: int,
    listed: bool,
    by_value: bool,
    found: list[Unread],
) -> None:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, item in dict.items(value):
            _add_media(key, item, f"{name}.", depth, listed, found, by_value)
        return
    for item in value[:_FEW]:
        medium = None
        if by_value:
            medium = _medium_of_struct(item) if isinstance(item, dict) else medium_of(item)
        if medium is not None:
            found.append(Unread(name, name.rpartition(".")[2], value, medium, listed))
        elif isinstance(item, dict | list):
            within = listed or isinstance(item, dict)
            _add_media_inside(name, item, depth + 1, within, by_value, found)


def _medium_of_struct(value: dict[Any, Any]) -> Medium | None:
    if len(value) > len(_STRUCT) or not _STRUCT.issuperset(value):
        return None
    return next(filter(None, map(medium_of, dict.values(value))), None)
