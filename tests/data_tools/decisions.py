"""What a build decides about records that are at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data_tools.balance.config import Balance
from data_tools.build.balance import Balanced, balanced
from data_tools.build.plan import copies_of
from data_tools.dedup import merge
from data_tools.parts.index import IndexBuilder
from data_tools.schema import PreferenceRecord
from data_tools.splits import Keys, connect, draw_splits


def splits_of(
    records: Sequence[PreferenceRecord], shares: dict[str, dict[str, float]]
) -> tuple[list[str], dict[str, int]]:
    """The split of each record, and the leaks."""
    only = {name: next(iter(of)) if len(of) == 1 else None for name, of in shares.items()}
    fixed = [record.provenance.get("split") or only[record.source] for record in records]
    of_source = np.array([list(shares).index(record.source) for record in records])
    found = connect(*Keys.of(records))
    splits, leaks = draw_splits(found, fixed, list(shares.values()), of_source)
    return list(splits), leaks


def deduplicated(
    records: Sequence[PreferenceRecord],
) -> tuple[list[PreferenceRecord], dict[str, int], dict[str, int]]:
    """The records that stay, merged; and by source how many copies said nothing new, and how many were merged."""
    builder = IndexBuilder()
    for record in records:
        builder.add(record)
    silent, merges = copies_of(builder.index(), np.array([record.split for record in records], dtype=object))
    gone = {*silent, *(copy for group in merges.values() for copy in group)}
    kept = {index: record for index, record in enumerate(records) if index not in gone}
    for index, group in merges.items():
        for copy in group:
            kept[index] = merge(kept[index], records[copy])
    merged = Counter(records[copy].source for group in merges.values() for copy in group)
    return list(kept.values()), dict(Counter(records[index].source for index in silent)), dict(merged)


def kept_by(
    records: Sequence[PreferenceRecord], balance: Balance, seed: int
) -> tuple[list[PreferenceRecord], dict[str, int]]:
    """The records that the balancer lets stay; and by cell, how many it drops."""
    found = balanced_of(records, balance, seed)
    stay = [record for record, gone in zip(records, found.gone_N, strict=True) if not gone]
    return stay, found.solution.dropped()


def balanced_of(records: Sequence[PreferenceRecord], balance: Balance, seed: int) -> Balanced:
    """What the build's balancer makes of records."""
    builder = IndexBuilder()
    sources = sorted({record.source for record in records})
    for record in records:
        builder.add(record)
    index = builder.index()
    index.columns["source"] = np.array([sources.index(record.source) for record in records], np.int16)
    return balanced(index, np.ones(len(records), bool), sources, balance, seed)
