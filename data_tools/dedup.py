"""One record of each content: the judgements of copies are merged into the first, so that none is lost.

Copies have equal prompts, images and responses (in any order), and the same kind and split. A judgement that the kept
record has already isn't doubled; one that contradicts it is kept beside it, since judges do disagree.

The records of an image-flip pair mean something only together. So a pair goes only as the copy of a whole other pair,
and a single record is merged into none of them: it goes if it adds no judgement, and else stays beside the pair.

What goes where is decided by hashes alone (`find_copies`); `merge` then works on the few records concerned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from data_tools.hashes import hash64
from data_tools.labels import LABELS, Comparison, Correction, Critique, Labels, Ranking, Rating
from data_tools.schema import PreferenceRecord, with_labels

Label = Comparison | Ranking | Rating | Correction | Critique


class Judgements(Protocol):
    """The hashes of what each record says, by its index."""

    def __getitem__(self, index: int, /) -> Sequence[int]: ...


@dataclass(frozen=True)
class Copies:
    """The records that go, by index: `silent` say nothing new, `merges` holds by kept record those whose judgements go
    into it, in the order in which they do.
    """

    silent: list[int]
    merges: dict[int, list[int]]


def find_copies(content_N: np.ndarray, flip_N: np.ndarray, judged: Judgements) -> Copies:
    """Which of N records are copies, of which the first of each content stays.

    `content_N` holds equal numbers for equal content, kind and split; `flip_N` a number for each flip pair, and -1 for
    records of none; `judged[i]` are the hashes of what record i says (see `sense_hash`), asked for only of records that
    have copies.
    """
    _, content_N, times = np.unique(content_N, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(times[content_N] > 1)
    content = dict(zip(shared.tolist(), content_N[shared].tolist(), strict=True))
    pair = {index: int(flip_N[index]) for index in content}
    originals = _original_pairs(content_N, flip_N, set(pair.values()) - {-1})
    place: dict[tuple[int, int], int] = {}  # the kept record of a flip pair (or -1) and a content
    halves: dict[int, list[int]] = {}  # of the kept flip pairs, by content
    says: dict[int, set[int]] = {}  # of the kept records
    found = Copies([], {})

    def rank(index: int) -> int:
        """Original flip pairs first, then their copies, then single records."""
        return 2 if pair[index] == -1 else int(originals[pair[index]] != pair[index])

    for index in sorted(content, key=rank):
        own = set(judged[index])
        original = originals[pair[index]] if pair[index] != -1 else -1
        key = (original, content[index])
        if original == -1 and any(own <= says[half] for half in halves.get(content[index], ())):
            found.silent.append(index)
        elif key not in place or (original != -1 and original == pair[index]):
            place[key], says[index] = index, own
            if original != -1:
                halves.setdefault(content[index], []).append(index)
        elif own <= says[place[key]]:
            found.silent.append(index)
        else:
            found.merges.setdefault(place[key], []).append(index)
            says[place[key]] |= own
    return found


def _original_pairs(content_N: np.ndarray, flip_N: np.ndarray, pairs: set[int]) -> dict[int, int]:
    """For each of some flip pairs the first one whose records hold the same: itself, unless it is a copy."""
    members: dict[int, list[int]] = {}
    for index in np.flatnonzero(np.isin(flip_N, sorted(pairs))):
        members.setdefault(int(flip_N[index]), []).append(int(content_N[index]))
    firsts: dict[tuple[int, ...], int] = {}
    return {pair: firsts.setdefault(tuple(sorted(held)), pair) for pair, held in members.items()}


def merge(kept: PreferenceRecord, copy: PreferenceRecord) -> PreferenceRecord:
    """`kept` with the judgements of `copy` that it lacks, their responses found by text."""
    twin = dict(zip(_by_text(copy), _by_text(kept), strict=True))
    moved = copy.labels.moved([twin[old] for old in range(len(copy.responses))])
    same = range(len(kept.responses))
    known = {sense for _, _, sense in _senses(kept.labels, same)}
    added: dict[str, list[Label]] = {name: [] for name in LABELS}
    for name, label, sense in _senses(moved, same):
        if sense not in known:
            known.add(sense)
            added[name].append(label)
    return with_labels(kept, Labels(**{name: (*getattr(kept, name), *added[name]) for name in LABELS}))


def contradicted(kept: Sequence[dict[str, Any]], copy: dict[str, Any]) -> set[str]:
    """The objectives on which a copy says the opposite of records of the same content (all as `schema.to_json` gives
    them): the other answer is better, or a yes is a no.
    """
    said = {verdict for row in kept for verdict in _verdicts(row)}
    return {objective for objective, one, other in _verdicts(copy) if (objective, other, one) in said}


def _verdicts(row: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a row says on each objective, as two texts whose order a contradiction turns round."""
    texts = [response["text"] for response in row["responses"]]
    for item in row["comparisons"]:
        if not item["tie"]:
            yield item["objective"], texts[item["better"]], texts[item["worse"]]
    for item in row["ratings"]:
        if item.get("kind") == "binary":
            yes = item["value"] == item["high"]
            both = (texts[item["response"]], "")
            yield item["objective"], *(both if yes else both[::-1])


def judgements(record: PreferenceRecord) -> list[tuple[str, Label, int]]:
    """All that is judged about a record: where it stands among the labels, itself, and a hash of 64 bits that is equal
    for what says the same about copies of the record.
    """
    place = [0] * len(record.responses)
    for new, old in enumerate(_by_text(record)):
        place[old] = new
    return [(name, label, hash64(repr(sense))) for name, label, sense in _senses(record.labels, place)]


def _by_text(record: PreferenceRecord) -> list[int]:
    """The indices of the responses in an order that copies share."""
    responses = record.responses
    return sorted(range(len(responses)), key=lambda i: (responses[i].text, responses[i].model or ""))


def _senses(labels: Labels, place: Sequence[int]) -> Iterator[tuple[str, Label, tuple[object, ...]]]:
    """Each label with the field it stands in and what it says, response i being called `place[i]`: equal for labels
    that say the same. Of a tie the order says nothing.
    """
    for name in ("comparisons", "votes"):
        for item in getattr(labels, name):
            sides = [place[item.better], place[item.worse]]
            margin = None if item.margin is None else float(item.margin)
            said = tuple(sorted(sides) if item.tie else sides)
            yield name, item, (name, item.objective, said, item.tie, margin, item.judge)
    for rating in labels.ratings:
        numbers = (float(rating.value), float(rating.low), float(rating.high))
        sense = ("ratings", rating.objective, place[rating.response], numbers, rating.judge, rating.kind)
        yield "ratings", rating, sense
    for ranking in labels.rankings:
        order = tuple(tuple(sorted(place[i] for i in group)) for group in ranking.order)
        yield "rankings", ranking, ("rankings", ranking.objective, order, ranking.judge)
    for correction in labels.corrections:
        both = (place[correction.corrected], place[correction.original])
        yield "corrections", correction, ("corrections", correction.objective, both, correction.judge)
    for critique in labels.critiques:
        of = None if critique.response is None else place[critique.response]
        yield "critiques", critique, ("critiques", critique.objective, of, critique.text, critique.judge)
