"""Whether a data directory is what its manifest says, down to every image; all that is wrong is told, not the first.

Left out on purpose: repairing. What is damaged is built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_tools.errors import UserError
from data_tools.hashes import hash64
from data_tools.images import ImageError, check_image
from data_tools.manifest import MANIFEST, Manifest, ShardInfo, counts_of, file_problems, parse_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shard_index import entries
from data_tools.shards import read_record, read_row
from data_tools.tar import Member

# what a build and an audit write beside shards and manifest
BESIDE = ("audit", "config.yaml", "quarantine", "stats.json")
WORKER_BYTES = 64 * 2**20  # a process more is worth its start for so much to read


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of the directory, or with one record in it (`key` isn't empty)."""

    file: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: key {self.key}: {self.what}" if self.key else f"{self.file}: {self.what}"


@dataclass
class CheckReport:
    """What a check read, and what was wrong: `records` and `images` are those that are whole, `bytes` the size of the
    shards, `others` the files that belong to no data set, which are no problem, and `ids` a hash of each record's
    source and id.
    """

    directory: Path
    shards: int = 0
    records: int = 0
    images: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    ids: array[int] = field(default_factory=lambda: array("Q"))


def check(
    directory: str | Path,
    decode: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Reads all of a data directory: every shard's hash, headers, records and image hashes; with `decode`, whether
    every image can be decoded, too.

    `workers` processes do it (None: as many as there are cores, fewer where there is little to read); `progress` is
    called with the number of bytes that are done, and of how many.

    Raises:
        UserError: there is no manifest that can be read.
    """
    directory = Path(directory)
    manifest = parse_manifest(directory)
    report = CheckReport(directory, others=_others(directory, manifest))
    report.problems += [Problem(name, "", what) for name, what in file_problems(directory, manifest)]
    report.problems += [Problem(MANIFEST, "", what) for what in _wrong_counts(manifest)]
    report.problems += _wrong_quarantine(directory, manifest)
    # among the folder's own files, so that a name such as ../x leads nowhere
    present = {path.name for path in directory.glob("*.tar")}
    shards = [shard for shard in manifest.shards if shard.name in present]
    total = sum(shard.bytes for shard in shards)
    for done in _checked(directory, shards, decode, _workers(workers, len(shards), total)):
        report.shards += done.shards
        report.records += done.records
        report.images += done.images
        report.bytes += done.bytes
        report.problems += done.problems
        report.ids += done.ids
        if progress:
            progress(report.bytes, total)
    report.problems += _twins(directory, shards, report.ids)
    report.problems.sort(key=lambda problem: problem.file)  # in each file they stay in their order
    return report


def check_shard(directory: Path, shard: ShardInfo, decode: bool) -> CheckReport:
    """What `check` finds in one shard."""
    path = directory / shard.name
    report = CheckReport(directory, shards=1, bytes=shard.bytes)

    def fail(key: str, what: str) -> None:
        report.problems.append(Problem(shard.name, key, what))

    judged: dict[str, Counter[str]] = {name: Counter() for name in JUDGEMENTS}
    try:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                fail("", "its content was changed or damaged (another sha256 than the manifest's)")
            for entry in entries(path, shard, fail):
                data, *images = (_read(file, member) for member in entry.members)
                try:
                    record = read_record(shard, data, images)
                except UserError as error:
                    fail(entry.key, str(error))
                    continue
                report.records += 1
                report.ids.append(hash64(record.source, record.id))
                report.images += len(images)
                for name, objectives in JUDGEMENTS.items():
                    judged[name].update(objectives(record))
                for number, image in enumerate(images if decode else ()):
                    if what := _undecodable(image):
                        fail(entry.key, f"image {number}: {what}")
    except UserError as error:
        fail("", str(error).removeprefix(f"{path}: "))
    except OSError as error:
        fail("", f"can't be read ({error.strerror or error})")
    if not report.problems:
        for name, counts in judged.items():
            said = getattr(shard, name)
            if said is not None and said != dict(counts):
                fail("", f"holds the {name} {dict(sorted(counts.items()))}, the manifest says {said}")
    return report


# what a manifest counts by objective
JUDGEMENTS: dict[str, Callable[[PreferenceRecord], Iterator[str]]] = {
    "objectives": lambda record: (comparison.objective for comparison in record.comparisons),
    "ratings": lambda record: (rating.objective for rating in record.ratings),
    "rankings": lambda record: (ranking.objective for ranking in record.rankings),
    "binaries": lambda record: (rating.objective for rating in record.ratings if rating.kind == "binary"),
}


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _twins(directory: Path, shards: Sequence[ShardInfo], ids: array[int]) -> Iterator[Problem]:
    """Records of one source with the same id; their shards are read again only where there are some."""
    values, times = np.unique(np.array(ids, np.uint64), return_counts=True)
    twice = set(values[times > 1].tolist())
    for shard in shards if twice else ():
        path = directory / shard.name
        with open(path, "rb") as file, contextlib.suppress(UserError):  # which were told of before
            for entry in entries(path, shard, lambda key, what: None):
                try:
                    row = read_row(_read(file, entry.members[0]))
                except UserError:
                    continue
                if hash64(row.get("source"), row.get("id")) in twice:
                    yield Problem(
                        shard.name,
                        entry.key,
                        f"another record of {row['source']} has the id {row['id']!r}, too",
                    )


def _undecodable(image: bytes) -> str:
    """Why an image can't be decoded; empty where it can."""
    try:
        check_image(image)
    except ImageError as error:
        return str(error)
    return ""


def _checked(
    directory: Path, shards: Sequence[ShardInfo], decode: bool, workers: int
) -> Iterator[CheckReport]:
    """The shards' reports, as they are done."""
    if workers == 1:
        yield from (check_shard(directory, shard, decode) for shard in shards)
        return
    # not forked, which is unsafe in a program that has threads
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(check_shard, directory, shard, decode) for shard in shards]
        yield from (run.result() for run in as_completed(runs))


def _workers(asked: int | None, shards: int, size: int) -> int:
    most = asked or min(os.cpu_count() or 1, 1 + size // WORKER_BYTES)
    return max(1, min(most, shards))


def _wrong_counts(manifest: Manifest) -> Iterator[str]:
    total = sum(shard.records for shard in manifest.shards)
    if manifest.records != total:
        yield f"says {manifest.records} records, its shards have {total}"
    counts = counts_of(manifest.shards)
    if manifest.counts != counts:
        yield f"says the counts {manifest.counts}, its shards have {counts}"


def _wrong_quarantine(directory: Path, manifest: Manifest) -> list[Problem]:
    """Whether as many rows are in the quarantine as the manifest counts."""
    path = directory / "quarantine" / "rows.jsonl"
    name = "quarantine/rows.jsonl"
    rows = manifest.extra.get("rows", {})
    said = sum(of["quarantined"] for of in rows.values())
    held = 0
    if path.exists():
        with open(path, "rb") as file:
            held = sum(1 for _ in file)
    return [] if held == said else [Problem(name, "", f"holds {held:,} rows, the manifest counts {said:,}")]


def _others(directory: Path, manifest: Manifest) -> list[str]:
    """The files that aren't the data set's; a tar too many is a problem and isn't among them."""
    known = {MANIFEST, *BESIDE, *(shard.name for shard in manifest.shards)}
    return sorted(
        path.name for path in directory.iterdir() if path.name not in known and path.suffix != ".tar"
    )
