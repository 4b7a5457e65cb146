"""Reasons why rows are no records, counted: those that differ only in a number, a name or a path are one fault."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")
_QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"")
_PATH = re.compile(r"(?<!\S)[^\s:(]*/[^\s:)]*\.\w+")


def general(reason: str) -> str:
    """The reason with N in place of numbers, and ... in place of quoted names and paths."""
    for pattern, stand_in in ((_QUOTED, "'...'"), (_PATH, "..."), (_NUMBER, "N")):
        reason = pattern.sub(stand_in, reason)
    return reason


class Reasons:
    """How many rows each reason has, and where it was seen first.

    One that was seen in one form keeps its words; where there are several, they are counted under the `general` one.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.firsts: dict[str, str] = {}
        self._words: dict[str, str] = {}  # by general reason, the words it is counted under

    def add(self, reason: str, where: str, number: int = 1) -> None:
        """Counts rows with this reason, of which the first is at `where`."""
        kind = general(reason)
        words = self._words.setdefault(kind, reason)
        if words not in (reason, kind):
            self.numbers[kind], self.firsts[kind] = self.numbers.pop(words), self.firsts.pop(words)
            words = self._words[kind] = kind
        self.numbers[words] = self.numbers.get(words, 0) + number
        self.firsts.setdefault(words, where)

    def items(self) -> Iterator[tuple[str, int, str]]:
        """Each reason, its number and where it was seen first."""
        return ((reason, number, self.firsts[reason]) for reason, number in self.numbers.items())
