"""The second step: which records stay, in which split, in which shard; decided by the index, without the records.

plan.json       the shards to be written, and what was left out
places.npy      where their records lie, in the order in which they are written
merges.npy      the copies whose judgements go into one of them
flips.npy       the flip pairs that remedies made of them
before/         the last three for all records before remedies and balance, where they are to be audited
quarantine/     rows that turn out to be none only beside others: those whose id stands twice
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.build.balance import balanced
from data_tools.build.config import DataConfig
from data_tools.build.planned import FLIP, FLIPS, MERGE, MERGES, PLACE, PLACES
from data_tools.build.quarantine import FOLDER, Quarantine
from data_tools.build.read import Counts, refuse_bad_source
from data_tools.dedup import contradicted, find_copies
from data_tools.hashes import numbered
from data_tools.manifest import KINDS
from data_tools.parts.index import MODALITIES, Index
from data_tools.parts.part import INDEX, PartReader, whole_folder, write_synced
from data_tools.parts.view import Place, View
from data_tools.shard_writer import Group
from data_tools.source import Rejected
from data_tools.splits import connect, draw_splits

PLAN, BEFORE = "plan.json", "before"
TWICE = "another row has the same id"


@dataclass(frozen=True)
class Shard:
    """A shard to be written: its group, file name, the number of its first key, its records by `places`, and how often
    the mixture shows them.
    """

    group: Group
    name: str
    first: int
    start: int
    stop: int
    repeat: float


@dataclass
class Plan:
    """The shards, the counts of each source, how many records there were, what was left out (see `config.BuildReport`),
    the balancer's plan (see `balance.solution.Solution.row`), where a split's records begin and end in `before/`, and
    what the remedies tell.
    """

    shards: list[Shard] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    made: int = 0
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    balance: dict[str, Any] | None = None
    before: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def load(folder: Path) -> Plan:
        """The plan of a folder that `make_plan` wrote."""
        row = json.loads((folder / PLAN).read_bytes())
        return Plan(
            [Shard(**{**shard, "group": Group(**shard["group"])}) for shard in row["shards"]],
            {name: Counts(**counts) for name, counts in row["counts"].items()},
            row["made"],
            row["left_out"],
            row["balance"],
            {split: (start, stop) for split, (start, stop) in row["before"].items()},
            row["notes"],
        )


def make_plan(config: DataConfig, parts: Sequence[tuple[int, Path]], folder: Path) -> None:
    """Writes the plan for some parts: each one's source, by number, and its folder.

    Raises:
        UserError: a source has too many bad rows, or a quota can't be met.
    """
    sources = [source.name for source in config.sources]
    plan = Plan(counts={name: Counts() for name in sources})
    for number, path in parts:
        plan.counts[sources[number]].add(Counts.load(path))
    index = Index.load([(number, path / INDEX) for number, path in parts])
    folders = [path for _, path in parts]
    with whole_folder(folder) as temporary:
        index = _without_twins(index, plan, sources, folders, temporary / FOLDER)
        for source in config.sources:
            refuse_bad_source(source, plan.counts[source.name], config.max_rejected)
        plan.made = len(index)
        chosen = _chosen(config, index, plan, sources, folders, temporary)
        order = _in_shards(chosen.index, chosen.split_N, chosen.repeat_N, sources, config.shard_records, plan)
        _save(temporary, chosen.index, order, chosen.merge_M, chosen.flip_M)
        write_synced(temporary / PLAN, json.dumps(asdict(plan)))


def twins(row_N: np.ndarray, id_N: np.ndarray) -> dict[int, int]:
    """The rows of which a record has an id of a row before, itself none of these, or twice; with the place of the first
    such record.

    Of N records in their order, `row_N` tells the row, and `id_N` is a number that is equal for equal ids of a source.
    """
    _, inverse, times = np.unique(id_N, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(np.isin(row_N, np.unique(row_N[times[inverse] > 1])))
    held: set[int] = set()
    found: dict[int, int] = {}
    start = 0
    for stop in [*(np.flatnonzero(np.diff(row_N[shared])) + 1).tolist(), len(shared)]:
        of_row = shared[start:stop].tolist()
        start = stop
        ids = [int(id_N[index]) for index in of_row]
        clash = next((index for index, own in zip(of_row, ids, strict=True) if own in held), None)
        if clash is None and len(set(ids)) < len(ids):
            clash = of_row[-1]
        if clash is None:
            held.update(ids)
        elif of_row:
            found[int(row_N[of_row[0]])] = clash
    return found


def _without_twins(
    index: Index, plan: Plan, sources: list[str], folders: list[Path], quarantine: Path
) -> Index:
    """The records without the rows whose id stands in a row before them, which go into the quarantine."""
    ids, _ = numbered(index["id"])
    # ids are of a source, rows of a part
    id_N = ids * len(sources) + index["source"]
    row_N = np.cumsum(
        np.diff(index["part"], prepend=-1).astype(bool) | np.diff(index["row"], prepend=-1).astype(bool)
    )
    found = twins(row_N, id_N)
    records = np.bincount(row_N)
    with ExitStack() as stack:
        keeps = {name: stack.enter_context(Quarantine(quarantine / name, name)) for name in sources}
        reader = stack.enter_context(closing(PartReader(folders)))
        for row, place in found.items():
            name = sources[index["source"][place]]
            at = (int(index[key][place]) for key in ("part", "offset", "size"))
            said = json.loads(reader.body(*at))
            keeps[name].add(Rejected(TWICE, said["id"], "id-twice", said))
            plan.counts[name].refuse(TWICE, said["id"], int(records[row]))
    return index.only(~np.isin(row_N, list(found))) if found else index


@dataclass(frozen=True)
class _Chosen:
    """The records that stay, their splits, how often the mixture shows them, and by their place in the index the copies
    that go into them (MERGE) and the flip pairs that were made of them (FLIP).
    """

    index: Index
    split_N: np.ndarray
    repeat_N: np.ndarray
    merge_M: np.ndarray
    flip_M: np.ndarray


def _chosen(
    config: DataConfig, index: Index, plan: Plan, sources: list[str], folders: list[Path], folder: Path
) -> _Chosen:
    """What stays; writes what there was before remedies and balance into a subfolder, where it is to be audited."""
    # splits first: they also hang on what the copies share with other records
    split_N = _splits(config, index)
    copies: dict[int, list[int]] = {}
    whole = index
    keep_N = np.ones(len(index), dtype=bool)
    told: dict[str, dict[str, int]] = {"duplicates": {}, "merged": {}}
    if config.dedup:
        silent, copies = copies_of(index, split_N)
        merged = [copy for group in copies.values() for copy in group]
        index = index.saying_more(copies)
        told = {
            "duplicates": _by_source(index, silent, sources),
            "merged": _by_source(index, merged, sources),
        }
        keep_N[[*silent, *merged]] = False
    places = np.flatnonzero(keep_N)
    merges = _merges(whole, places, copies)
    view = View(index.only(keep_N), split_N[keep_N], sources, folders, _copies(merges), _named_splits(config))
    if config.audit is not None:
        (folder / BEFORE).mkdir()
        order, plan.before = _by_split(view.split)
        _save(folder / BEFORE, view.index, order, merges, np.empty(0, FLIP))
    for view.turn, remedy in enumerate(config.remedies):
        remedy.apply(view, config.seed)
    view.close()
    places, flip_N = places[view.live], view.flips
    dropped: dict[str, int] = {}
    left, split_N = view.index, view.split
    repeat_N = np.ones(len(left))
    if config.balance is not None:
        subject = ((split_N == "train") & (left["kind"] == KINDS.index("preference"))).astype(bool)
        found = balanced(left, subject, sources, config.balance, config.seed)
        dropped, plan.balance = found.solution.dropped(), found.solution.row()
        stay = ~found.gone_N
        left, split_N, places, repeat_N = left.only(stay), split_N[stay], places[stay], found.repeat_N[stay]
        flip_N = flip_N[stay]
    filtered = dict(sorted(view.dropped.items()))
    plan.left_out = {**told, "filtered": filtered, "dropped": dropped, "leaks": _leaks(left, split_N)}
    plan.notes = [*_contradictions(whole, copies, sources, folders), *view.notes]
    flip_M = np.zeros(np.count_nonzero(flip_N), FLIP)
    flip_M["of"] = np.flatnonzero(flip_N)
    flip_M["name"] = flip_N[flip_M["of"]]
    return _Chosen(left, split_N, repeat_N, _merges(whole, places, copies), flip_M)


def _contradictions(
    whole: Index, copies: dict[int, list[int]], sources: list[str], folders: list[Path]
) -> list[str]:
    """A sentence for each source of which merged copies say the opposite of the record that they go into."""
    found: dict[str, Counter[str]] = {}
    copying = Counter[str]()
    with closing(PartReader(folders)) as reader:
        for kept, group in copies.items():
            rows = [
                json.loads(reader.body(*(int(whole[key][place]) for key in ("part", "offset", "size"))))
                for place in (kept, *group)
            ]
            for number, place in enumerate(group, 1):
                if objectives := contradicted(rows[:number], rows[number]):
                    name = sources[whole["source"][place]]
                    copying[name] += 1
                    found.setdefault(name, Counter()).update(objectives)
    return [
        f"{copying[name]:,} merged {'copy' if copying[name] == 1 else 'copies'} from {name} "
        f"{'says' if copying[name] == 1 else 'say'} the opposite of the record with the same prompt and answers "
        f"({', '.join(f'{objective}: {number:,}' for objective, number in sorted(counts.items()))}); both judgements "
        "are kept, as judges do disagree"
        for name, counts in sorted(found.items())
    ]


def _merges(whole: Index, places: np.ndarray, copies: dict[int, list[int]]) -> np.ndarray:
    """The copies that go into the records at these places of the index, by their order here."""
    now = {int(place): number for number, place in enumerate(places)} if copies else {}
    merges = [(now[kept], copy) for kept, group in copies.items() if kept in now for copy in group]
    rows = [(into, *(whole[name][copy] for name in PLACE.names or ())) for into, copy in merges]
    return np.array(rows, dtype=MERGE)


def _by_split(split_N: np.ndarray) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """An order in which each split's records stand together, and where each begins and ends there."""
    names, split = np.unique(split_N.astype(str), return_inverse=True)
    order = np.argsort(split, kind="stable")
    ends = np.searchsorted(split[order], np.arange(len(names) + 1)).tolist()
    return order, {str(name): (ends[n], ends[n + 1]) for n, name in enumerate(names)}


def _copies(merge_M: np.ndarray) -> dict[int, list[Place]]:
    """By record, where the copies lie that are merged into it."""
    found: dict[int, list[Place]] = {}
    for into, part, offset, size, length in merge_M.tolist():
        found.setdefault(into, []).append((part, offset, size, length))
    return found


def _named_splits(config: DataConfig) -> list[str]:
    return sorted({name for source in config.sources for name in source.splits})


def _leaks(index: Index, split_N: np.ndarray) -> dict[str, int]:
    """By the splits that meet, how many of the records that stay hang together across them."""
    _, leaks = draw_splits(connect(index.keys(), len(index)), split_N, [], index["source"])
    return leaks


def _splits(config: DataConfig, index: Index) -> np.ndarray:
    only = [next(iter(s.splits)) if len(s.splits) == 1 else None for s in config.sources]
    of_source = np.array(only, dtype=object)[index["source"]]
    named = np.array([*index.splits, None], dtype=object)[index["fixed"]]
    fixed = np.where(index["fixed"] >= 0, named, of_source)
    shares = [source.splits for source in config.sources]
    split_N, _ = draw_splits(connect(index.keys(), len(index)), fixed, shares, index["source"])
    return split_N


def copies_of(index: Index, split_N: np.ndarray) -> tuple[list[int], dict[int, list[int]]]:
    """The records that are copies of others of their kind and split: see `dedup.Copies`."""
    content, _ = numbered(index["content"])
    splits, split = np.unique(split_N.astype(str), return_inverse=True)
    content = (content * len(KINDS) + index["kind"]) * len(splits) + split
    flip, _ = numbered(index["flip"])
    found = find_copies(content, np.where(index["flip"].any(axis=1), flip, -1), index.judged())
    return found.silent, found.merges


def _by_source(index: Index, places: list[int], sources: list[str]) -> dict[str, int]:
    times = Counter(index["source"][places].tolist())
    return dict(sorted((sources[number], count) for number, count in times.items()))


def _in_shards(
    index: Index, split_N: np.ndarray, repeat_N: np.ndarray, sources: list[str], most: int, plan: Plan
) -> np.ndarray:
    """The order in which the records are written; plans the shards: group by group, those of one repeat together, in
    the order of the rows.
    """
    splits, split = np.unique(split_N.astype(str), return_inverse=True)
    shape = (len(sources), len(KINDS), len(MODALITIES), max(1, len(splits)))
    key = np.ravel_multi_index((index["source"], index["kind"], index["modality"], split), shape)
    groups = {}
    for number in np.unique(key).tolist():
        source, kind, modality, part = np.unravel_index(number, shape)
        groups[Group(sources[source], KINDS[kind], MODALITIES[modality], str(splits[part]))] = number
    order = []
    start = 0
    for group in sorted(groups):
        members = np.flatnonzero(key == groups[group])
        members = members[np.argsort(repeat_N[members], kind="stable")]
        order.append(members)
        first = number = 0
        while first < len(members):
            repeat = repeat_N[members[first]]
            alike = int(np.searchsorted(repeat_N[members], repeat, side="right"))
            stop = min(first + most, alike)
            name = group.shard_name(number)
            plan.shards.append(Shard(group, name, first, start + first, start + stop, float(repeat)))
            first, number = stop, number + 1
        start += len(members)
    return np.concatenate(order) if order else np.empty(0, dtype=np.int64)


def _save(folder: Path, index: Index, order: np.ndarray, merge_M: np.ndarray, flip_M: np.ndarray) -> None:
    """Writes the records in this order: where they lie, and with their new numbers MERGE and FLIP."""
    place_N = np.empty(len(order), dtype=PLACE)
    for name in PLACE.names or ():
        place_N[name] = index[name][order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    for values, key in ((merge_M, "into"), (flip_M, "of")):
        values[key] = rank[values[key]]
        values[:] = values[np.argsort(values[key], kind="stable")]
    for name, values in ((PLACES, place_N), (MERGES, merge_M), (FLIPS, flip_M)):
        with open(folder / name, "wb") as file:
            np.save(file, values)
            file.flush()
            os.fsync(file.fileno())
