"""One record of each content: the judgements of copies are merged into the first, so that none is lost.

Copies have equal prompts, images and responses (in any order), and the same kind and split. A judgement that the kept
record has already isn't doubled; one that contradicts it is kept beside it, since judges do disagree.

The records of an image-flip pair mean something only together. So a pair goes only as the copy of a whole other pair,
and a single record is merged into none of them: it goes if it adds no judgement, and else stays beside the pair.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from data_tools.schema import Comparison, PreferenceRecord, Ranking, content_hash
from data_tools.shards import kind_of

Content = tuple[str, str, str]  # hash, kind, split
Pair = tuple[str, str]  # a source, and the name of a flip pair of it


@dataclasses.dataclass(frozen=True)
class Deduplicated:
    """The records that stay, in their order and under their own ids; and by source, how many copies are gone.

    `duplicates` added nothing; the judgements of `merged` are now part of the record that stays.
    """

    records: list[PreferenceRecord]
    duplicates: dict[str, int]
    merged: dict[str, int]


def deduplicate(records: Sequence[PreferenceRecord]) -> Deduplicated:
    """Keeps the first record of each content, and in it the judgements of its copies."""
    contents = [(content_hash(record), kind_of(record), record.split) for record in records]
    originals = _original_pairs(records, contents)
    kept: dict[int, PreferenceRecord] = {}
    place: dict[tuple[Pair | None, Content], int] = {}  # of the kept records
    halves: dict[Content, list[int]] = {}  # of the kept flip pairs
    duplicates, merged = Counter[str](), Counter[str]()

    def rank(index: int) -> int:
        """Original flip pairs first, then their copies, then single records."""
        pair = _pair(records[index])
        return 2 if pair is None else int(originals[pair] != pair)

    for index in sorted(range(len(records)), key=rank):
        record, content, pair = records[index], contents[index], _pair(records[index])
        key = (originals[pair] if pair else None, content)
        if pair is None and any(_merge(kept[half], record) == kept[half] for half in halves.get(content, ())):
            duplicates[record.source] += 1
        elif key not in place or (pair and originals[pair] == pair):
            kept[index], place[key] = record, index
            if pair:
                halves.setdefault(content, []).append(index)
        else:
            first = place[key]
            whole = _merge(kept[first], record)
            (duplicates if whole == kept[first] else merged)[record.source] += 1
            kept[first] = whole
    return Deduplicated(
        [kept[index] for index in sorted(kept)],
        dict(sorted(duplicates.items())),
        dict(sorted(merged.items())),
    )


def _pair(record: PreferenceRecord) -> Pair | None:
    flip = record.provenance.get("flip")
    return (record.source, flip) if isinstance(flip, str) else None


def _original_pairs(records: Sequence[PreferenceRecord], contents: Sequence[Content]) -> dict[Pair, Pair]:
    """For each flip pair the first one whose records hold the same: itself, unless it is a copy."""
    members: dict[Pair, list[Content]] = {}
    for record, content in zip(records, contents, strict=True):
        if pair := _pair(record):
            members.setdefault(pair, []).append(content)
    firsts: dict[tuple[Content, ...], Pair] = {}
    return {pair: firsts.setdefault(tuple(sorted(held)), pair) for pair, held in members.items()}


def _merge(kept: PreferenceRecord, copy: PreferenceRecord) -> PreferenceRecord:
    """`kept` with the judgements of `copy` that it lacks, their responses found by text."""
    place = dict(zip(_by_text(copy), _by_text(kept), strict=True))
    known = {_sense(comparison) for comparison in kept.comparisons}
    comparisons = [
        dataclasses.replace(comparison, better=place[comparison.better], worse=place[comparison.worse])
        for comparison in copy.comparisons
    ]
    ratings = [dataclasses.replace(rating, response=place[rating.response]) for rating in copy.ratings]
    orders = {_order(ranking) for ranking in kept.rankings}
    rankings = [
        dataclasses.replace(ranking, order=tuple(tuple(place[i] for i in group) for group in ranking.order))
        for ranking in copy.rankings
    ]
    return dataclasses.replace(
        kept,
        comparisons=(*kept.comparisons, *(c for c in comparisons if _sense(c) not in known)),
        ratings=(*kept.ratings, *(rating for rating in ratings if rating not in kept.ratings)),
        rankings=(*kept.rankings, *(ranking for ranking in rankings if _order(ranking) not in orders)),
    )


def _by_text(record: PreferenceRecord) -> list[int]:
    """The indices of the responses in an order that copies share."""
    responses = record.responses
    return sorted(range(len(responses)), key=lambda i: (responses[i].text, responses[i].model or ""))


def _sense(comparison: Comparison) -> Comparison:
    """Equal for comparisons that say the same: of a tie the order of the two says nothing."""
    low, high = sorted((comparison.better, comparison.worse))
    return dataclasses.replace(comparison, better=low, worse=high) if comparison.tie else comparison


def _order(ranking: Ranking) -> Ranking:
    """Equal for rankings that say the same: within a tie the order says nothing."""
    return dataclasses.replace(ranking, order=tuple(tuple(sorted(group)) for group in ranking.order))
