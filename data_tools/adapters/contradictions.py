"""Judgements that contradict themselves, in the records of any adapter: a row that says "tie" and yet has a better
answer, a better and a worse answer that got the same rating, a text that stands above itself.

Left out on purpose: a better answer with the lower rating. A reward model's score may well differ from what people
chose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from data_tools.adapters.row_error import RowError
from data_tools.schema import Comparison, PreferenceRecord, Ranking

_TIES = ("tie", "is_tie", "tied", "is_tied")
_YES = ("true", "yes", "1", "1.0")
_CHOICES = ("winner", "preference", "preferred", "choice", "verdict")
_EQUAL = ("tie", "tied", "draw", "equal")
_SIDES = ("chosen", "rejected")
# with "chosen", all words of a name such as score_chosen, chosen-rating, chosen_avg_rating
_RATED = frozenset(
    ("score", "scores", "rating", "ratings", "reward", "rewards", "overall", "avg", "average", "mean")
)
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class _Telling:
    """The fields of a row that may say that neither answer is better."""

    ties: tuple[str, ...]
    choices: tuple[str, ...]
    ratings: tuple[tuple[str, str], ...]


def check_judgements(record: PreferenceRecord, row: dict[Any, Any]) -> PreferenceRecord:
    """The record of a row, without what it says about one text as if it were two.

    Raises:
        RowError: the row says that neither answer is better, or no two answers that were compared differ.
    """
    if any(not comparison.tie for comparison in record.comparisons):
        _refuse_tie(row)
    texts = [response.text for response in record.responses]
    if len(set(texts)) == len(texts) or not (record.comparisons or record.rankings or record.votes):
        return record
    return _without_same(record, texts)


def _refuse_tie(row: dict[Any, Any]) -> None:
    telling = _telling_fields(tuple(dict.keys(row)))
    value: object
    for key in telling.ties:
        value = dict.get(row, key)  # a look doesn't read the field
        if value in (1, True) or (isinstance(value, str) and value.strip().lower() in _YES):
            raise RowError(f"{key} says that neither answer is better", "tied")
    for key in telling.choices:
        value = dict.get(row, key)
        if isinstance(value, str) and value.strip().lower() in _EQUAL:
            raise RowError(f"{key} says that neither answer is better", "tied")
    for one, other in telling.ratings:
        numbers = _number(dict.get(row, one)), _number(dict.get(row, other))
        if numbers[0] is not None and numbers[0] == numbers[1]:
            raise RowError(f"{one} and {other} are equal, so neither answer is better", "tied")


@lru_cache(maxsize=256)
def _telling_fields(keys: tuple[Any, ...]) -> _Telling:
    """Those of a row with these fields; tables have few sets of them."""
    names = [key for key in keys if isinstance(key, str)]
    pairs = [(name, name.replace(*_SIDES)) for name in names if _is_rating(name)]
    return _Telling(
        tuple(name for name in names if name.lower() in _TIES),
        tuple(name for name in names if name.lower() in _CHOICES),
        tuple((one, other) for one, other in pairs if other in names),
    )


def _is_rating(name: str) -> bool:
    words = set(_WORD.findall(name.lower()))
    return "chosen" in name and len(words) > 1 and words <= _RATED | {"chosen"}


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _without_same(record: PreferenceRecord, texts: Sequence[str]) -> PreferenceRecord:
    """The record without comparisons of a text with itself, and with each text in one place of a ranking at most."""

    def differ(comparison: Comparison) -> bool:
        return texts[comparison.better] != texts[comparison.worse]

    comparisons = tuple(filter(differ, record.comparisons))
    ranked = (_ranked_once(ranking, texts) for ranking in record.rankings)
    rankings = tuple(ranking for ranking in ranked if ranking is not None)
    if not (comparisons or rankings or record.ratings):
        raise RowError("no two different answers were compared", "same-answers")
    places = {text: [index for index, other in enumerate(texts) if other == text] for text in texts}
    same = [indices for indices in places.values() if len(indices) > 1]
    return replace(
        record,
        comparisons=comparisons,
        rankings=rankings,
        votes=tuple(filter(differ, record.votes)),
        provenance={**record.provenance, "same_answers": same},
    )


def _ranked_once(ranking: Ranking, texts: Sequence[str]) -> Ranking | None:
    """The ranking with each text once: in the first of its places where no other text stands beside it or between
    them, else nowhere, since then it is above and below another. None where fewer than two texts are left.
    """
    places: dict[str, list[int]] = {}
    kept: set[int] = set()
    for place, group in enumerate(ranking.order):
        for index in group:
            places.setdefault(texts[index], []).append(place)
    for text, at in places.items():
        between = [index for group in ranking.order[at[0] : at[-1] + 1] for index in group]
        mine = [index for index in between if texts[index] == text]
        if at[0] == at[-1] or len(mine) == len(between):
            kept.add(mine[0])
    groups = (tuple(index for index in group if index in kept) for group in ranking.order)
    order = tuple(group for group in groups if group)
    return replace(ranking, order=order) if len(kept) > 1 else None
