"""Whether the fields of a record that was read from JSON hold what they should: a dataclass takes anything.

The table names the classes of `data_tools.schema` and `data_tools.labels`, which therefore needn't be imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from types import NoneType
from typing import Any

_TEXT, _MAYBE_TEXT, _INDEX, _NUMBER = (str,), (str, NoneType), (int,), (float, int)
# the fields in their order, each with the types that it may have: bool is no int here
_FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "Part": {"text": _MAYBE_TEXT, "image": (int, NoneType)},
    "Response": {"text": _TEXT, "model": _MAYBE_TEXT},
    "ImageRef": {"data": (bytes, NoneType), "path": _MAYBE_TEXT, "sha256": _TEXT, "notes": (tuple,)},
    "Comparison": {
        "objective": _TEXT,
        "better": _INDEX,
        "worse": _INDEX,
        "tie": (bool,),
        "margin": (*_NUMBER, NoneType),
        "judge": _TEXT,
    },
    "Ranking": {"objective": _TEXT, "order": (tuple,), "judge": _TEXT},
    "Rating": {
        "objective": _TEXT,
        "response": _INDEX,
        "value": _NUMBER,
        "low": _NUMBER,
        "high": _NUMBER,
        "judge": _TEXT,
        "kind": _TEXT,
    },
    "Correction": {"objective": _TEXT, "corrected": _INDEX, "original": _INDEX, "judge": _TEXT},
    "Critique": {"text": _TEXT, "response": (int, NoneType), "objective": _TEXT, "judge": _TEXT},
}
# every row of types that a class may have: one look-up tells of an item whether all its fields are right
_RIGHT = {name: frozenset(product(*fields.values())) for name, fields in _FIELDS.items()}


def wrong_field(items: Sequence[Any]) -> str:
    """The first field of the items (all parts, all responses, all labels of a kind) that holds what it shouldn't, as
    `Response.text is 5`; empty where all are right.
    """
    if not items:
        return ""
    right = _RIGHT[type(items[0]).__name__]
    for item in items:
        if (*map(type, item.__dict__.values()),) not in right:
            return _named(item)
    return ""


def _named(item: Any) -> str:
    name = type(item).__name__
    field, value = next(
        (field, value) for field, value in vars(item).items() if type(value) not in _FIELDS[name][field]
    )
    return f"{name}.{field} is {value!r:.60}"
