"""Rows that note which of their fields are taken out of them, at every depth.

What was asked for was read; the check for pictures that nobody reads (`data_tools.adapters.media`) looks through the
rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DEEPEST = 6  # lists in one another whose objects are watched


class Watched(dict[Any, Any]):
    """A row, or an object in it, that notes in `asked` the fields that are taken out of it, by name or all at once.

    Objects are handed out as `Watched`, too, also those in lists, and stand in `inner`. Whether a field is there (`in`)
    may be asked without that. `dict.items(row)` and `dict.get(row, key)` look without being noted.

    Where the object was read as the list of objects that its lists are the columns of, those are `rows`. What was taken
    out by `pop` is in `taken`.
    """

    __slots__ = ("asked", "inner", "rows", "taken")

    def __init__(self, row: dict[Any, Any]) -> None:
        super().__init__(row)
        self.asked: set[Any] = set()
        self.inner: dict[Any, Any] = {}
        self.rows: list[Watched] | None = None
        self.taken: dict[Any, Any] = {}

    def child(self, key: Any) -> Any:
        """The value of a field that is there, watched, but not noted as asked for."""
        value = dict.__getitem__(self, key)
        if type(value) not in _NESTED:
            return value
        if key not in self.inner:
            self.inner[key] = watch(value)
        return self.inner[key]

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        value = dict.__getitem__(self, key)
        return self.child(key) if type(value) in _NESTED else value

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        value = dict.get(self, key, default)
        return self.child(key) if type(value) in _NESTED and key in self else value

    def pop(self, key: Any, *default: Any) -> Any:
        if key not in self:
            return super().pop(key, *default)
        value = self.taken[key] = self[key]
        super().pop(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.inner.pop(key, None)
        super().__setitem__(key, value)

    def __iter__(self) -> Iterator[Any]:  # with this, {**row} and dict(row) ask for each field, too
        return super().__iter__()

    def items(self) -> Any:
        return self.copy().items()

    def values(self) -> Any:
        return self.copy().values()

    def copy(self) -> dict[Any, Any]:
        self.asked.update(dict.keys(self))
        items = dict.items(self)
        if _NESTED.isdisjoint(map(type, dict.values(self))):
            return dict(items)
        return {key: self.child(key) for key, _ in items}


def watch(value: Any, depth: int = _DEEPEST) -> Any:
    """The value with watched objects; itself where it is or holds none."""
    if isinstance(value, dict):
        return value if isinstance(value, Watched) else Watched(value)
    if isinstance(value, list) and depth and not _NESTED.isdisjoint(map(type, value)):
        return [watch(item, depth - 1) for item in value]
    return value


def unwatched(value: Any) -> Any:
    """The value with plain objects, as the row had them."""
    if isinstance(value, Watched):
        return unwatched(dict(dict.items(value)))
    if isinstance(value, dict):
        return {key: unwatched(item) for key, item in value.items()}
    return [unwatched(item) for item in value] if isinstance(value, list) else value


_NESTED = frozenset((dict, list, Watched))
