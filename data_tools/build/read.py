"""The first step: a piece of a source's input becomes a part."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from data_tools.adapters.base import FileSource
from data_tools.adapters.recognise import recognise
from data_tools.build.quarantine import FOLDER, Quarantine
from data_tools.build.reasons import Reasons
from data_tools.errors import UserError
from data_tools.image_files import NO_FILE, OUTSIDE
from data_tools.image_limits import TOO_MANY, ImageError, image_limits
from data_tools.parts.part import COUNTS, PartWriter, whole_folder, write_synced
from data_tools.resize import ImageSettings, with_small_images
from data_tools.rows.piece import Piece
from data_tools.schema import PreferenceRecord, to_json
from data_tools.source import APART, Rejected, Source

PackedT = TypeVar("PackedT")


@dataclass(frozen=True)
class ReadTask:
    """What is to be read, what is done to its images, and the part's folder."""

    source: Source
    piece: Piece | None
    seed: int
    images: ImageSettings
    folder: str


@dataclass
class Counts:
    """Of a part, or of a source: the rows read, those of them that are quarantined, and the records of the others; by
    reason how many rows, and where the first one is. `apart` are those of the quarantined rows that aren't malformed
    (`data_tools.source.APART`).
    """

    read: int = 0
    quarantined: int = 0
    records: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, str] = field(default_factory=dict)
    apart: int = 0

    def add(self, other: Counts) -> None:
        """Adds those of a part that comes later."""
        self.read += other.read
        self.quarantined += other.quarantined
        self.records += other.records
        self.apart += other.apart
        joined = Reasons()
        for counts in (self, other):
            for reason, number in counts.reasons.items():
                joined.add(reason, counts.firsts[reason], number)
        self.reasons, self.firsts = joined.numbers, joined.firsts

    def refuse(self, reason: str, where: str, records: int) -> None:
        """Counts a row as quarantined that was not until now, and its records as none."""
        self.add(Counts(0, 1, -records, {reason: 1}, {reason: where}))

    def rows(self) -> dict[str, int]:
        """The sum of the rows: in + quarantined = read."""
        return {"read": self.read, "in": self.read - self.quarantined, "quarantined": self.quarantined}

    @staticmethod
    def load(folder: Path) -> Counts:
        """Those of a finished part."""
        return Counts(**json.loads((folder / COUNTS).read_bytes()))


def read_part(task: ReadTask) -> str:
    """Reads a piece into its folder, which is also what is given back, once it is there.

    Raises:
        UserError: the input can't be read, or a record says that it is of another source.
    """
    with whole_folder(Path(task.folder)) as folder:
        with PartWriter(folder) as part:
            counts = read_rows(task, folder, part.pack, part.add)
        write_synced(folder / COUNTS, json.dumps(asdict(counts)))
    return task.folder


def read_rows(
    task: ReadTask,
    folder: Path,
    pack: Callable[[PreferenceRecord], PackedT],
    add: Callable[[PackedT, int], None],
) -> Counts:
    """Packs and adds the records of each row, with the row's number, or puts the row into the folder's quarantine.

    `pack` raises UserError for a record that can't be written; then none of its row is.
    """
    name = task.source.name
    counts = Counts()
    with Quarantine(folder / FOLDER, name) as quarantine, image_limits(task.images.limits):
        for item in task.source.read(task.seed, task.piece):
            packed = item if isinstance(item, Rejected) else _packed(item, task, pack)
            if isinstance(packed, Rejected):
                quarantine.add(packed)
                counts.quarantined += 1
                counts.apart += packed.code in APART
            else:
                for one in packed:
                    add(one, counts.read)
                counts.records += len(packed)
            counts.read += 1
    counts.reasons, counts.firsts = quarantine.reasons.numbers, quarantine.reasons.firsts
    return counts


def _packed(
    records: tuple[PreferenceRecord, ...], task: ReadTask, pack: Callable[[PreferenceRecord], PackedT]
) -> list[PackedT] | Rejected:
    packed = []
    for record in records:
        if record.source != task.source.name:
            raise UserError(f"source {task.source.name}: its record {record.id} is of {record.source!r}")
        try:
            packed.append(pack(with_small_images(record, task.images)))
        except UserError as error:
            # without the record's id or the image's path, so that equal faults are counted as one
            reason, code = str(error).partition(": ")[2] or str(error), "schema"
            if isinstance(error, ImageError):
                reason, code = error.reason, error.code
            return Rejected(reason, record.id, code, to_json(record))
    return packed


class TooManyRejected(UserError):
    """A source's rows are refused, so many of them, or all."""


def refuse_bad_source(source: Source, counts: Counts, most: float) -> None:
    """Raises UserError where a source has no rows, TooManyRejected where none, or too few of them are good."""
    name = source.name
    if counts.read == 0:
        raise UserError(f"source {name}: gave no rows at all")
    judged, bad = counts.read - counts.apart, counts.quarantined - counts.apart
    if counts.quarantined < counts.read and bad <= most * judged:
        return
    told = sorted(counts.reasons.items(), key=lambda item: -item[1])
    lines = [f"  {number} x {reason} (first: {counts.firsts[reason]})" for reason, number in told]
    if counts.quarantined == counts.read:
        other = " or what no record can hold or nobody has judged" if counts.apart else ""
        what = f"{counts.read} of {counts.read} rows are malformed{other}, so it gives no record"
    else:
        other = (
            f", beside {counts.apart} that no record can hold or nobody has judged" if counts.apart else ""
        )
        what = f"{bad} of {judged} rows are malformed, more than max_rejected = {most:g} allows{other}"
    raise TooManyRejected(f"source {name}: {what}:\n" + "\n".join([*lines[:10], *_hints(source, counts)]))


def _hints(source: Source, counts: Counts) -> list[str]:
    """What may be the matter with a source that has too many bad rows: another format, another folder of images."""
    if not isinstance(source, FileSource):
        return []
    if any(TOO_MANY.search(reason) for reason in counts.reasons):
        return [
            "Larger images are let in by images.max_pixels and images.max_bytes (of convert: --max-pixels, "
            "--max-bytes)."
        ]
    if any(words in reason for reason in counts.reasons for words in (NO_FILE, OUTSIDE)):
        roots = source.image_root if isinstance(source.image_root, tuple) else (source.image_root,)
        below = " and ".join(map(str, roots))
        return [f"Images are read below {below} only; name their folder: images (--images of convert)."]
    if counts.quarantined < counts.read:
        return []
    try:
        found = recognise(source.path, source.subset, source.split)
    except UserError:
        return []
    if found.name == type(source).model_fields["type"].default:
        return []
    return [
        f"The rows look like {found.name}: {found.why}. If they are, say type: {found.name} (--from of convert)."
    ]
