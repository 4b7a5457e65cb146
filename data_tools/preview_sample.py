"""One record as the preview page shows it: plain values for the template, nothing escaped yet."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from data_tools.labels import Correction, Critique, Ranking
from data_tools.schema import PreferenceRecord
from data_tools.shards import kind_of

MOST_TEXT = 4000  # characters of one text that are shown
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def sample_view(record: PreferenceRecord, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the template needs of a record, with its thumbnails."""
    return {
        "id": record.id,
        "source": record.source,
        "split": record.split,
        "kind": kind_of(record),
        "modality": record.modality,
        "images": images,
        "turns": [
            {
                "role": message.role,
                "parts": [
                    {"image": part.image + 1, "text": None}
                    if part.image is not None
                    else {"image": None, "text": _clipped(part.text or "")}
                    for part in message.parts
                ],
            }
            for message in record.prompt
        ],
        "answers": [_answer(record, index) for index in range(len(record.responses))],
        "judged": list(_judged(record)),
        "critiques": [_critique(item) for item in record.critiques if item.response is None],
        "corrections": [_correction(record, item) for item in record.corrections],
        "folded": [
            (title, _clipped(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True))["shown"])
            for title, value in (
                ("where it comes from", record.provenance),
                ("reference for the oracle", record.reference),
                ("what the images show", list(record.scenes)),
            )
            if value
        ],
    }


def _answer(record: PreferenceRecord, index: int) -> dict[str, Any]:
    response = record.responses[index]
    won = {pair.objective for pair in record.pairs() if not pair.tie and pair.better == index}
    lost = {pair.objective for pair in record.pairs() if not pair.tie and pair.worse == index}
    chips = [("better", f"✓ better: {name}") for name in sorted(won - lost)]
    chips += [("worse", f"✗ worse: {name}") for name in sorted(lost - won)]
    chips += [("", f"between: {name}") for name in sorted(won & lost)]
    for rating in record.ratings:
        if rating.response != index:
            continue
        if rating.kind == "binary":
            yes = rating.value == rating.high
            chips.append(("better" if yes else "worse", f"{rating.objective}: {'yes' if yes else 'no'}"))
        else:
            chips.append(("", f"{rating.objective}: {rating.value:g} of {rating.low:g} to {rating.high:g}"))
    return {
        "name": _name(index),
        "model": response.model,
        "text": _clipped(response.text),
        "best": bool(won - lost) and not lost,
        "chips": chips,
        "critiques": [_critique(item) for item in record.critiques if item.response == index],
    }


def _judged(record: PreferenceRecord) -> Iterator[str]:
    """A line for each comparison and ranking, and one for the votes on each objective."""
    for pair in record.comparisons:
        sign = "=" if pair.tie else ">"
        margin = f", by {pair.margin:g}" if pair.margin is not None else ""
        yield f"{pair.objective}: {_name(pair.better)} {sign} {_name(pair.worse)}{margin} ({pair.judge})"
    for ranking in record.rankings:
        yield f"{ranking.objective}: {_order(ranking)} ({ranking.judge})"
    votes: dict[str, Counter[str]] = {}
    for vote in record.votes:
        said = "a tie" if vote.tie else f"{_name(vote.better)} > {_name(vote.worse)}"
        votes.setdefault(vote.objective, Counter())[said] += 1
    for objective, counts in votes.items():
        yield f"{objective}, single votes: " + ", ".join(
            f"{number} x {said}" for said, number in counts.most_common()
        )


def _order(ranking: Ranking) -> str:
    return " > ".join(" = ".join(map(_name, group)) for group in ranking.order)


def _critique(critique: Critique) -> dict[str, Any]:
    on = f", on {critique.objective}" if critique.objective else ""
    return {"text": _clipped(critique.text), "by": f"{critique.judge}{on}"}


def _correction(record: PreferenceRecord, correction: Correction) -> dict[str, Any]:
    original, corrected = (
        record.responses[place].text for place in (correction.original, correction.corrected)
    )
    return {
        "title": f"{_name(correction.original)} corrected to {_name(correction.corrected)} on {correction.objective} "
        f"({correction.judge})",
        "words": list(differing(original[:MOST_TEXT], corrected[:MOST_TEXT])),
    }


def differing(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Two texts as pieces that are the `same`, `gone` from the first, or `new` in the second, word by word."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "same", "".join(old[a:b])
            continue
        if b > a:
            yield "gone", "".join(old[a:b])
        if d > c:
            yield "new", "".join(new[c:d])


def _clipped(text: str) -> dict[str, Any]:
    return {"shown": text[:MOST_TEXT], "more": max(0, len(text) - MOST_TEXT)}


def _name(index: int) -> str:
    """A letter for each answer; numbers where letters run out."""
    return chr(ord("A") + index) if index < 26 else f"answer {index + 1}"
