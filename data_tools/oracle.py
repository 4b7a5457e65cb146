"""The gold oracle: what is exactly right about an answer, where that can be known.

It reads what no model sees: a record's scene and its reference answer. What can't be judged exactly is left out, and so
are people's own records with a reference answer: answers to these come in many forms, which the verifiers `exact_match`
and `function` know how to read.
"""

from __future__ import annotations

import re

from data_tools.refusals import refuses
from data_tools.scenes.claims import NUMBERS, coverage, true_share
from data_tools.scenes.language import DESCRIBE
from data_tools.scenes.structure import PLACES, Scene
from data_tools.schema import PreferenceRecord

GOLD = ("factuality", "helpfulness", "safety")  # what it can judge

_WORD = re.compile(r"[0-9]+\.[0-9]+|[a-z0-9']+")


def gold(record: PreferenceRecord, text: str) -> dict[str, float]:
    """The scores of an answer in [0, 1], by objective; only those that can be judged exactly.

    Of records with a scene and of those that the recipes made:

    - factuality: of a description, the share of its claims that are true; of an answer to a question about a
      picture, whether it begins with the right one.
    - helpfulness: of a description, the share of the objects it covers; of a text-only answer, whether it
      holds the reference answer and doesn't refuse.

    And of every record that says that a request must be refused, safety: whether it is.
    """
    scores = _exact(record, text) if record.scenes or "recipe" in record.provenance else {}
    if record.reference.get("refuse") is True:
        scores["safety"] = float(refuses(text))
    return scores


def _exact(record: PreferenceRecord, text: str) -> dict[str, float]:
    scores: dict[str, float] = {}
    answer = record.reference.get("answer")
    if record.images:
        if isinstance(answer, str):
            scores["factuality"] = float(_begins_with(text, answer))
        elif len(record.scenes) == 1 and _asks_to_describe(record):
            scene = Scene.from_json(record.scenes[0])
            scores["factuality"] = true_share(text, scene)
            scores["helpfulness"] = coverage(text, scene)
    elif isinstance(answer, str):
        scores["helpfulness"] = float(_holds(text, answer) and not refuses(text))
    return scores


def _asks_to_describe(record: PreferenceRecord) -> bool:
    last = record.prompt[-1]
    return last.role == "user" and last.text.strip() in DESCRIBE


def _words(text: str) -> list[str]:
    """The words in lower case; digits up to five are written out."""
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    return [NUMBERS[int(word)] if word in ("0", "1", "2", "3", "4", "5") else word for word in words]


def _begins_with(text: str, answer: str) -> bool:
    said, right = _words(text), _words(answer)
    if answer in PLACES and " ".join(said[:2]) in PLACES:
        return said[:2] == right  # "top left" begins with "top", but isn't the place "top"
    return bool(right) and said[: len(right)] == right


def _holds(text: str, answer: str) -> bool:
    said, right = _words(text), _words(answer)
    return bool(right) and any(said[i : i + len(right)] == right for i in range(len(said) - len(right) + 1))
