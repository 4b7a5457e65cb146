"""Whether an answer is the reference answer, letting through what makes no difference.

Both are read as words in lower case, without punctuation and articles, with numbers by their value: "Three dogs." is
"3 dogs", "1,200" is "1200.0". A true or false reference is a yes or no, and so is an answer's "true" or "false" then.
Where the reference may stand anywhere, an answer that names all there is would win; with a yes or no that is seen to:
one that says both is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, Values

_WORD = re.compile(
    r"(?<![\w.])-?\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?"  # 1,200.5
    r"|(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)"
    r"|\d+|[^\W\d_]+(?:'[^\W\d_]+)*"
)
_ARTICLES = ("a", "an", "the")
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_YES_NO: dict[str | float, str | float] = {"true": "yes", "false": "no"}


class ExactMatch(ObjectiveBase):
    """1 where the answer is the record's reference answer, else 0; doesn't apply to records without one."""

    looks: ClassVar[bool] = False

    type: Literal["exact_match"] = "exact_match"
    key: str = Field(
        "answer",
        description="where in the record's `reference` the right answer is: a text, a number, true or false, or a "
        "list of such, any of which is right",
    )
    where: Literal["whole", "start", "end", "anywhere"] = Field(
        "whole", description="where in the answer it must stand; anywhere rewards answers that name many"
    )

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        return [self._value(record, text) for record, text in zip(records, texts, strict=True)]

    @property
    def needs(self) -> str:
        return f"reference.{self.key}"

    def applies(self, record: PreferenceRecord) -> bool:
        return bool(self._options(record))

    def _value(self, record: PreferenceRecord, text: str) -> float | None:
        known = self._options(record)
        return float(any(matches(text, option, self.where) for option in known)) if known else None

    def _options(self, record: PreferenceRecord) -> list[str | int | float]:
        """The answers that are right."""
        reference = record.reference.get(self.key)
        options = reference if isinstance(reference, list) else [reference]
        return [option for option in options if isinstance(option, str | int | float)]


def matches(text: str, reference: Any, where: str = "whole") -> bool:
    """Whether a reference answer stands in a text, as its whole, at its start or end, or anywhere."""
    number = isinstance(reference, int | float) and not isinstance(reference, bool)
    right: list[str | float] = [float(reference)] if number else words(str(reference))
    keep = right in [[article] for article in _ARTICLES]  # the "A" of a multiple choice is no article
    said = words(text, keep)
    if isinstance(reference, bool):
        right = [_YES_NO[word] for word in right]
        said = [_YES_NO.get(word, word) for word in said]
    if not right or (right in (["yes"], ["no"]) and {"yes", "no"} <= set(said)):
        return False
    places = {
        "whole": [0] if len(said) == len(right) else [],
        "start": [0],
        "end": [max(0, len(said) - len(right))],
        "anywhere": range(len(said) - len(right) + 1),
    }
    return any(said[i : i + len(right)] == right for i in places[where])


def words(text: str, articles: bool = False) -> list[str | float]:
    """The words of a text in lower case, and its numbers by their value; articles only where there is nothing else, or
    where they are asked for."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'"))
    read = [_read(word) for word in found]
    bare = [word for word in read if word not in _ARTICLES]
    return read if articles or not bare else bare


def _read(word: str) -> str | float:
    if word[-1].isdecimal():
        return float(word.replace(",", ""))
    return float(_NUMBERS.index(word)) if word in _NUMBERS else word
