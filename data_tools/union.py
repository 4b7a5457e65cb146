"""Union-find: which things hang together when pairs of them are joined."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

ThingT = TypeVar("ThingT", bound=Hashable)


class UnionFind(Generic[ThingT]):
    """Sets of things that were joined, directly or through others; each is named by one of its members."""

    def __init__(self) -> None:
        self._parent: dict[ThingT, ThingT] = {}

    def find(self, thing: ThingT) -> ThingT:
        """The member that names the thing's set: the same for all that hang together."""
        while self._parent.setdefault(thing, thing) != thing:
            self._parent[thing] = self._parent[self._parent[thing]]  # halves the way for the next time
            thing = self._parent[thing]
        return thing

    def join(self, things: Iterable[ThingT]) -> None:
        """Puts all of the things into one set, which keeps the name of the first one's."""
        first, *rest = things
        for thing in rest:
            self._parent[self.find(thing)] = self.find(first)
