"""One source into a data directory as it is: nothing is merged, balanced or reordered, and images are touched once.

Each piece of the input becomes finished shards at once; only then are they numbered, piece by piece. A shard that turns
out to hold a record whose id stands in an earlier row is written again without it.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.build.config import ADVICE, Advice, BuildReport, ConvertConfig, Progress
from data_tools.build.finish import finish, report_of
from data_tools.build.plan import TWICE, twins
from data_tools.build.quarantine import FOLDER, Quarantine
from data_tools.build.read import Counts, ReadTask, read_rows, refuse_bad_source
from data_tools.build.run import read, read_tasks, working
from data_tools.build.work import Work, fingerprint, is_finished
from data_tools.config import dump_yaml
from data_tools.executor import Executor, LocalExecutor
from data_tools.hashes import as_hashes, hash16, numbered
from data_tools.inputs import file_hashes
from data_tools.manifest import ShardInfo
from data_tools.parts.columns import load_columns, save_columns
from data_tools.parts.part import COUNTS, whole_folder, write_synced
from data_tools.schema import PreferenceRecord
from data_tools.shard_writer import Group, Ready, ShardWriter, make_ready
from data_tools.shards import open_shard
from data_tools.source import Rejected, Source
from data_tools.tally import Tally

SHARDS, IDS = "shards.json", "ids.npz"


def convert(
    config: ConvertConfig,
    out: str | Path,
    progress: Progress | None = None,
    overwrite: bool = False,
    advice: Advice = ADVICE,
    executor: Executor | None = None,
    resume: bool = False,
) -> BuildReport:
    """Writes the records of one source to `out`: in the split that a record's provenance fixes, else in the only one
    that the source's `splits` names, else in the one that the data has them in, which is `train` where it has none.

    Everything else is as in `build`, but for one thing: where the input is divided into pieces, a shard ends there.
    """
    report = progress or (lambda what, done, total: None)
    executor = executor or LocalExecutor()
    work = Work(Path(out))
    text = dump_yaml(config)
    if is_finished(text, [config.source], work, overwrite, resume, advice):
        work.tidy()
        return report_of(work.output, [config.source])
    files = file_hashes([(config.source.name, config.source.files())])
    tasks = [
        PieceTask(**vars(task), number=number, most=config.shard_records)
        for number, task in enumerate(read_tasks(config, config.sources, work.parts))
    ]
    said = fingerprint(text, files, [task.piece for task in tasks], config.source.origin())
    with working(work, said, resume, overwrite, advice):
        read(tasks, convert_piece, executor, report)
        counts = Counts()
        for task in tasks:
            counts.add(Counts.load(Path(task.folder)))
        mends = _twins(tasks, counts)
        refuse_bad_source(config.source, counts, config.max_rejected)
        for _ in executor.map(mend, [task for task in mends.values() if not Path(task.target).exists()]):
            pass
        told = _numbered(tasks, mends, work)
        quarantines = [Path(task.folder) / FOLDER for task in tasks]
        quarantines += [Path(task.target) / FOLDER for task in mends.values()]
        extra = {"seed": config.seed, "files": files, "made": counts.records}
        finish(work, text, told, quarantines, {config.source.name: counts}, {}, extra)
    return report_of(work.output)


@dataclass(frozen=True)
class PieceTask(ReadTask):
    """A piece, its number, and how many records a shard may hold."""

    number: int
    most: int


@dataclass
class _Begun:
    """A shard being written."""

    writer: ShardWriter
    place: int  # among the shards of the piece
    tally: Tally = field(default_factory=Tally)


class _Shards:
    """The shards of a piece: those being written, by group, and those done."""

    def __init__(self, folder: Path, task: PieceTask) -> None:
        self.folder, self.task, self.split = folder, task, _split(task.source)
        self.begun: dict[Group, _Begun] = {}
        self.done: dict[int, dict[str, Any]] = {}
        self.written: dict[Group, int] = {}
        self.named: set[Group] = set()  # those that files can have
        self.ids = bytearray()
        self.columns = {name: array("q") for name in ("row", "shard", "place")}

    def pack(self, record: PreferenceRecord) -> tuple[Ready, bytes]:
        """The record as its shard will hold it, and a hash of its id."""
        named = record.provenance.get("split")
        split = named if isinstance(named, str) else self.split or record.split
        record = record if record.split == split else replace(record, split=split)
        group = Group.of(record)
        if group not in self.named:
            group.shard_name(0)  # refuses names that no file can have
            self.named.add(group)
        return make_ready(record, self.task.images.keep_metadata), hash16(record.id)

    def add(self, packed: tuple[Ready, bytes], row: int) -> None:
        """Appends it to the shard of its group."""
        ready, hashed = packed
        group = ready.group
        if group not in self.begun:
            place = len(self.done) + len(self.begun)
            self.begun[group] = _Begun(
                ShardWriter(
                    self.folder / f"{place:06d}.tar",
                    group,
                    self.written.get(group, 0),
                    _prefix(self.task.number),
                ),
                place,
            )
        shard = self.begun[group]
        for name, value in (("row", row), ("shard", shard.place), ("place", shard.writer.records)):
            self.columns[name].append(value)
        self.ids += hashed
        shard.writer.add_ready(ready)
        shard.tally.add(ready.row, ready.sizes)
        if shard.writer.records >= self.task.most:
            self._finish(group)

    def _finish(self, group: Group) -> None:
        shard = self.begun.pop(group)
        info = shard.writer.finish()
        self.written[group] = self.written.get(group, 0) + info.records
        self.done[shard.place] = {"info": asdict(info), "tally": shard.tally.to_json()}

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.close()
        for shard in self.begun.values():
            shard.writer.discard()

    def close(self) -> None:
        """Finishes all shards, and writes what is told of them."""
        for group in list(self.begun):
            self._finish(group)
        columns = {name: np.array(values) for name, values in self.columns.items()}
        save_columns(self.folder / IDS, {**columns, "id": as_hashes(self.ids)})
        write_synced(self.folder / SHARDS, json.dumps([self.done[place] for place in sorted(self.done)]))


def _prefix(number: int) -> str:
    """What the keys of a piece begin with, so that no key stands twice in the directory."""
    return f"{number:05d}-"


def _split(source: Source) -> str | None:
    """The split that all of the source's records go to, where its config names only one."""
    return next(iter(source.splits)) if len(source.splits) == 1 else None


def convert_piece(task: PieceTask) -> str:
    """Writes the shards of a piece into its folder, which is also what is given back."""
    with whole_folder(Path(task.folder)) as folder:
        with _Shards(folder, task) as shards:
            counts = read_rows(task, folder, shards.pack, shards.add)
        write_synced(folder / COUNTS, json.dumps(asdict(counts)))
    return task.folder


@dataclass(frozen=True)
class MendTask:
    """A shard of a piece, by numbers and the folder of the piece; the records to be left `out` of it, and those of them
    that are `told` of, in place of their rows; and the folder of what it becomes.
    """

    folder: str
    piece: int
    shard: int
    out: tuple[int, ...]
    told: tuple[int, ...]
    target: str


def _twins(tasks: Sequence[PieceTask], counts: Counts) -> dict[tuple[int, int], MendTask]:
    """The shards, by piece and place, that hold a record of a row whose id stands in a row before; counts these rows as
    quarantined.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("row", "shard", "place", "id", "piece")}
    for task in tasks:
        for name, values in load_columns(Path(task.folder) / IDS).items():
            columns[name].append(values)
        columns["piece"].append(np.full(len(columns["row"][-1]), task.number))
    row, shard, place, ids, piece = (np.concatenate(values) for values in columns.values())
    changes = np.diff(row, prepend=-1).astype(bool) | np.diff(piece, prepend=-1).astype(bool)
    row_N = np.cumsum(changes)
    found = twins(row_N, numbered(ids)[0])
    gone = np.flatnonzero(np.isin(row_N, list(found)))
    told = set(found.values())
    leave: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for index in gone.tolist():
        out, representatives = leave.setdefault((int(piece[index]), int(shard[index])), ([], []))
        out.append(int(place[index]))
        if index in told:
            representatives.append(int(place[index]))
    mends = {}
    for (number, which), (out, representatives) in sorted(leave.items()):
        folder = tasks[number].folder
        target = f"{folder}-mended-{which:06d}"
        mends[number, which] = MendTask(folder, number, which, tuple(out), tuple(representatives), target)
    if found:
        first = _told(tasks, int(piece[min(told)]))[int(shard[min(told)])]
        where = open_shard(Path(tasks[int(piece[min(told)])].folder), ShardInfo(**first["info"]))
        counts.add(
            Counts(
                0,
                len(found),
                -len(gone),
                {TWICE: len(found)},
                {TWICE: where.meta(int(place[min(told)]))["id"]},
            )
        )
    return mends


def mend(task: MendTask) -> int:
    """Writes a shard again without some of its records; how many are left."""
    infos = [ShardInfo(**row["info"]) for row in json.loads((Path(task.folder) / SHARDS).read_bytes())]
    info = infos[task.shard]
    group = _group(info)
    before = sum(other.records for other in infos[: task.shard] if _group(other) == group)
    records = open_shard(Path(task.folder), info)
    leave = set(task.out)
    with whole_folder(Path(task.target)) as folder:
        with Quarantine(folder / FOLDER, info.source) as quarantine:
            for place in task.told:
                row = records.meta(place)
                quarantine.add(Rejected(TWICE, row["id"], "id-twice", row))
        # of what was kept of its metadata, all is
        writer = ShardWriter(folder / info.name, group, before, _prefix(task.piece), keep_metadata=True)
        tally = Tally()
        try:
            for place in range(len(records)):
                if place not in leave:
                    ready = writer.add(records[place])
                    tally.add(ready.row, ready.sizes)
            told = [{"info": asdict(writer.finish()), "tally": tally.to_json()}] if writer.records else []
        finally:
            writer.discard()
        write_synced(folder / SHARDS, json.dumps(told))
    return writer.records


def _group(info: ShardInfo) -> Group:
    return Group(info.source, info.kind, info.modality, info.split)


def _told(tasks: Sequence[PieceTask], number: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((Path(tasks[number].folder) / SHARDS).read_bytes())
    return rows


def _numbered(
    tasks: Sequence[PieceTask], mends: dict[tuple[int, int], MendTask], work: Work
) -> list[dict[str, Any]]:
    """Moves the shards to their place, under names that count those of a group; what is told of them, by name."""
    numbers: dict[Group, int] = {}
    told = []
    for task in tasks:
        for which, row in enumerate(_told(tasks, task.number)):
            folder, rows = Path(task.folder), [row]
            if (task.number, which) in mends:
                folder = Path(mends[task.number, which].target)
                rows = json.loads((folder / SHARDS).read_bytes())
            for row in rows:
                info = ShardInfo(**row["info"])
                group = _group(info)
                name = group.shard_name(numbers.setdefault(group, 0))
                numbers[group] += 1
                if not (work.out / name).exists():
                    os.replace(folder / info.name, work.out / name)
                told.append((group, {**row, "info": {**row["info"], "name": name}}))
    return [row for _, row in sorted(told, key=lambda item: (item[0], item[1]["info"]["name"]))]
