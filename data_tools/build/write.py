"""The third step: the records of one shard are read out of the parts, made ready and written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_tools.atomic import write_text
from data_tools.build.plan import Shard
from data_tools.build.planned import Planned
from data_tools.hashes import hash16
from data_tools.schema import PreferenceRecord, reordered
from data_tools.shard_writer import ShardWriter
from data_tools.tally import Tally


@dataclass(frozen=True)
class WriteTask:
    """A shard of a plan: where the plan and the parts are, and where the tar and what is told of it go."""

    shard: Shard
    plan: str
    parts: tuple[str, ...]
    out: str
    told: str
    seed: int | None  # of the order of responses; None leaves them as they are
    keep_metadata: bool = False  # of images


def write_shard(task: WriteTask) -> int:
    """Writes the tar, then what the manifest and the statistics say of it; the number of its records.

    Raises:
        UserError: an image has changed since it was read, or can't be read any more.
    """
    shard = task.shard
    parts = [Path(part) for part in task.parts]
    records = Planned(parts, shard.group.split, Path(task.plan), shard.start, shard.stop)
    writer = ShardWriter(
        Path(task.out) / shard.name, shard.group, shard.first, keep_metadata=task.keep_metadata
    )
    tally = Tally()
    try:
        for number in range(len(records)):
            record = records[number]
            if task.seed is not None:
                record = shuffled(record, task.seed)
            ready = writer.add(record)
            tally.add(ready.row, ready.sizes)
        info = writer.finish(shard.repeat)
    finally:
        writer.discard()
        records.close()
    write_text(Path(task.told), json.dumps({"info": asdict(info), "tally": tally.to_json()}))
    return info.records


def shuffled(record: PreferenceRecord, seed: int) -> PreferenceRecord:
    """The record with its responses ordered by a hash of the seed, their texts, and its flip pair, or itself where it
    is of none: the records of a pair keep one order.
    """
    if len(record.responses) < 2:
        return record
    flip = record.provenance.get("flip")
    whose = f"flip {flip}" if isinstance(flip, str) else f"id {record.id}"

    def rank(index: int) -> bytes:
        response = record.responses[index]
        return hash16("\0".join((str(seed), record.source, whose, response.text, response.model or "")))

    order = sorted(range(len(record.responses)), key=rank)
    return record if order == list(range(len(order))) else reordered(record, order)
