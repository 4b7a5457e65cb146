"""The rows of a JSON list, or of the lists in a JSON object, one after the other.

So a list of any length takes the memory of its largest row: a few kilobytes that are unpacked to millions of rows do no
harm. A list that turns out to be damaged is refused as a whole, since where its next row begins is then a guess.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from data_tools.errors import UserError
from data_tools.rows.json_value import DECODER, LAX_DECODER, NO_UTF8, DoubledKey, Unfit, check_density
from data_tools.rows.stream import Damaged, open_bytes

MOST_ROW = 256 * 2**20  # characters of a row; more is no row, but a mistake or an attack
_BLOCK = 2**20
_SPACE = " \t\n\r"
_SPACES = re.compile(f"[{_SPACE}]*")
_NUMBER = 32  # characters behind a value in which a number that was cut in two is seen to go on


@dataclass(frozen=True)
class Doubled:
    """An element of a list in which an object has two fields of one name: why it is refused, and the element with the
    last of these.
    """

    why: str
    value: Any


def list_values(path: Path, key: str | None = None) -> Iterator[Any]:
    """The elements of the list that the file holds, or of the list named `key` in its object; some may be `Doubled`.

    Raises:
        UserError: it isn't valid JSON as a whole; maybe only after some elements were given.
    """
    with _reading(path) as text:
        if key is None:
            yield from _elements(text)
            text.end()
            return
        for name in _fields(text):
            if name == key:
                yield from _elements(text)
                return
            deque(_elements(text), maxlen=0)


def list_keys(path: Path) -> list[str]:
    """The fields of a JSON object of lists, in the file's order.

    Raises:
        UserError: it isn't valid JSON, a field is no list, or two have one name.
    """
    found = []
    with _reading(path) as text:
        for name in _fields(text):
            if text.peek() != "[":
                raise UserError(
                    f"{path}: one JSON object, but not each of its fields is a list of rows; write the rows as one "
                    "JSON list, or one row a line"
                )
            if name in found:
                raise UserError(f"{path}: two of its lists are called {name!r}; give each its own name")
            found.append(name)
            deque(_elements(text), maxlen=0)
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[_Text]:
    try:
        with open_bytes(path) as file:
            yield _Text(file)
    except Damaged as error:
        raise UserError(f"{path}: {error}, and a JSON list is only read whole") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {NO_UTF8}") from error
    except (ValueError, RecursionError) as error:
        known = isinstance(error, Unfit)
        raise UserError(f"{path}: {error}" if known else f"{path}: not valid JSON: {error}") from error


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    more = True
    while more:
        yield text.value()
        more = text.take(",]") == ","


def _fields(text: _Text) -> Iterator[str]:
    """The names of an object's fields; whoever is given one reads its value."""
    text.take("{")
    while True:
        name = text.value()
        if not isinstance(name, str):
            raise ValueError("a field's name is no text")
        text.take(":")
        yield name
        if text.take(",}") == "}":
            text.end()
            return


class _Text:
    """The text of a file, as far as it was read and not yet passed; all raise ValueError where it is no JSON."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._passed = "", 0, 0
        self._ended = False

    def peek(self) -> str:
        """The next character that isn't white space; empty at the end."""
        while True:
            self._at = _SPACES.match(self._text, self._at).end()  # type: ignore[union-attr]  # it may be empty
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._fill()

    def take(self, letters: str) -> str:
        """Passes the next character, which must be one of `letters`."""
        letter = self.peek()
        if not letter or letter not in letters:
            raise self._fault(f"expected {' or '.join(letters)}", self._at)
        self._at += 1
        return letter

    def end(self) -> None:
        """Makes sure that nothing follows."""
        if self.peek():
            raise self._fault("something follows its end", self._at)

    def value(self) -> Any:
        """Passes the next value."""
        while True:
            self.peek()
            fault: json.JSONDecodeError | None = None
            try:
                value, end = self._decode()
            except json.JSONDecodeError as error:
                fault, end = error, error.pos
            whole = self._ended or len(self._text) - end > _NUMBER
            if fault is None and (whole or self._text[end : end + 1] in (*",]}:", *_SPACE)):
                self._at = end
                return value
            # what isn't read yet can only mend a text without an end, and a fault near the end
            if fault is not None and (self._ended or (whole and not fault.msg.startswith("Unterminated"))):
                raise self._fault(fault.msg, fault.pos)
            if len(self._text) - self._at > MOST_ROW:
                raise self._fault(f"a row of more than {MOST_ROW:,} characters", self._at)
            self._fill()

    def _decode(self) -> tuple[Any, int]:
        try:
            return DECODER.raw_decode(self._text, self._at)
        except DoubledKey as error:
            value, end = LAX_DECODER.raw_decode(self._text, self._at)
            return Doubled(str(error), value), end

    def _fill(self) -> None:
        """Reads about as much again as isn't passed yet, so that a long value isn't parsed too often."""
        self._passed += self._at
        rest = self._text[self._at :]
        data = self._file.read(max(_BLOCK, len(rest)))
        self._ended = not data
        self._text, self._at = rest + self._decoder.decode(data, self._ended), 0
        check_density(rest)

    def _fault(self, why: str, at: int) -> ValueError:
        return ValueError(f"{why} (at character {self._passed + at:,})")
