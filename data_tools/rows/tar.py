"""Rows from WebDataset tars that somebody else wrote: the members of one key, side by side, are one sample.

A member is named `KEY.SUFFIX`, with the key up to the first dot of the file's name (folders before it count). What is
made of a sample's members stands in `data_tools.rows.sample`. The tar, also a gzipped one, is read twice: once for its
names alone, since a key whose members aren't side by side must not become two samples; then for its rows.

A sample that is damaged, or cut short, is one rejected row; so is all that lies behind damage to the archive, since how
many samples that were isn't known. Hidden files (`._x`, which some tools add) and folders are no members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_tools.rows.members import Entry, Members
from data_tools.rows.piece import Piece
from data_tools.rows.sample import Sample, SampleError, refused_suffix
from data_tools.rows.stream import Damaged, open_bytes
from data_tools.source import Rejected

MOST_SAMPLE = 256 * 2**20  # bytes of a sample's members together


@dataclass
class _Group:
    """The members of one key that stand side by side, as far as they were read."""

    key: str
    names: list[str] = field(default_factory=list)
    sample: Sample = field(default_factory=Sample)
    size: int = 0
    fault: SampleError | None = None

    def add(self, entry: Entry, suffix: str, members: Members) -> None:
        """Takes a member in; its bytes are only read where the sample can still become a row."""
        self.names.append(entry.name)
        self.size += entry.size
        try:
            if self.fault is None:
                self._check(entry, suffix)
                self.sample.add(entry.name, suffix, members.read(entry))
        except SampleError as error:
            self.fault, self.sample = error, Sample()

    def _check(self, entry: Entry, suffix: str) -> None:
        if entry.unsafe:
            raise SampleError("a member's name leads out of its folder, or is no plain text")
        if entry.kind != "file":
            raise SampleError("a member is a link, a device or a sparse file", "not-supported")
        reason = refused_suffix(suffix)
        if reason:
            raise SampleError(reason, "not-supported")
        if self.size > MOST_SAMPLE:
            raise SampleError("its members have too many bytes", "not-supported")


def tar_rows(piece: Piece) -> Iterator[tuple[str, Any] | Rejected]:
    """The rows of a tar, each by its key; a damaged tar's rows up to the damage, and one rejected row for the rest."""
    runs = _runs(piece.path)
    torn: dict[str, list[str]] = {}  # keys whose members aren't side by side: their names so far
    done = Counter[str]()

    def finished(group: _Group) -> Iterator[tuple[str, Any] | Rejected]:
        where = f"{piece.place}:{group.key}"
        if group.key in runs:
            torn.setdefault(group.key, []).extend(group.names)
            done[group.key] += 1
            if done[group.key] == runs[group.key]:
                names = torn.pop(group.key)
                dots = all(name.rpartition("/")[2].count(".") > 1 for name in names)
                why = f"its members aren't side by side{' (a key ends at the first dot)' if dots else ''}"
                yield Rejected(why, where, "row-unreadable", {"members": names})
        else:
            yield _row(group, where)

    group: _Group | None = None
    with open_bytes(piece.path) as file:
        members = Members(file)
        try:
            for entry in members:
                key, suffix = _split(entry)
                if key is None:
                    continue
                if group is None or group.key != key:
                    if group is not None:
                        yield from finished(group)
                    group = _Group(key)
                group.add(entry, suffix, members)
            if group is not None:
                yield from finished(group)
                group = None
            if not members.padded():
                yield _rest("there is more behind the archive's end mark", piece, members)
        except Damaged as error:
            if group is not None:
                names = [*torn.get(group.key, ()), *group.names]
                where = f"{piece.place}:{group.key}"
                yield Rejected(f"{error} in this sample", where, "row-unreadable", {"members": names})
            yield _rest(f"{error}; nothing after it can be read", piece, members)


def _rest(reason: str, piece: Piece, members: Members) -> Rejected:
    return Rejected(reason, f"{piece.place}:byte {members.position}", "row-unreadable")


def _row(group: _Group, where: str) -> tuple[str, Any] | Rejected:
    try:
        if group.fault is not None:
            raise group.fault
        return where, group.sample.row()
    except SampleError as error:
        return Rejected(str(error), where, error.code, {"members": group.names})


def _runs(path: str) -> dict[str, int]:
    """The keys whose members stand in more than one place, and in how many."""
    runs = Counter[str]()
    last: str | None = None
    with open_bytes(path) as file:
        try:
            for entry in Members(file):
                key = _split(entry)[0]
                if key is not None and key != last:
                    runs[key] += 1
                    last = key
        except Damaged:
            pass  # told of where the rows are read
    return {key: number for key, number in runs.items() if number > 1}


def _split(entry: Entry) -> tuple[str | None, str]:
    """The key and the suffix of a member; no key for a hidden file."""
    if entry.unsafe:
        return entry.name[:1000].encode("unicode_escape").decode(), ""
    folder, slash, name = entry.name.rpartition("/")
    key, _, suffix = name.partition(".")
    return (f"{folder}{slash}{key}" if key else None), suffix.lower()
