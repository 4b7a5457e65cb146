"""What the adapters share: reading local rows, each of which becomes a record or a reason why not.

What an adapter takes fields and makes messages with (`fields`, `prompts`) is given here, too. Left out on purpose:
downloading. A file is read from disk; a row's image is a local file or bytes, never a URL.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, model_validator

from data_tools.adapters.contradictions import check_judgements
from data_tools.adapters.fields import (
    check_characters,
    check_text,
    list_images,
    model_name,
    take_choice,
    take_image,
    take_images,
    take_text,
)
from data_tools.adapters.media import refuse_unread_media, without_fields
from data_tools.adapters.prompts import MARK, check_roles, messages_with_images, pair, question
from data_tools.adapters.row_error import RowError
from data_tools.adapters.watched import Watched
from data_tools.rows.hub import is_hub_name
from data_tools.rows.open import image_folders, passed_over, pieces, read_rows
from data_tools.rows.piece import Piece
from data_tools.schema import PreferenceRecord, SchemaError
from data_tools.source import Read, Rejected, Source

__all__ = [
    "MARK",
    "FileSource",
    "Rejected",
    "RowError",
    "check_characters",
    "check_roles",
    "check_text",
    "guarded",
    "list_images",
    "messages_with_images",
    "model_name",
    "pair",
    "question",
    "take_choice",
    "take_image",
    "take_images",
    "take_text",
]

MadeT = TypeVar("MadeT")
MOST_GROUPED = 64  # rows made one record; where more of one key follow one another, another begins


class FileSource(Source):
    """Base of the adapters: rows of files, each made into a record by `convert`.

    An adapter declares the fields that tell its format from others (`marks`), and says how a row becomes a record. One
    that must see all rows at once sets `whole` and does in `finish` what needs them all. One whose records are made of
    several rows that follow one another sets `grouped`, names in `key` what these share, and makes them records in
    `convert_group`.
    """

    path: Path = Field(
        description="A file (JSON lines, a JSON list, either also gzipped, Parquet, Arrow, a WebDataset tar), a folder "
        "of them or of save_to_disk, or the name of a data set on the hub (org/name)."
    )
    subset: str | None = Field(default=None, description="The subset (config) of a hub data set.")
    split: str | None = Field(
        default=None,
        description="The split to read of a hub data set, of a DatasetDict's folder, of a JSON object of lists, or of "
        "a folder whose files' names tell it (train, dev, test ...); all reads every one. "
        "`data convert` leaves the records in it; where a build puts them is the matter of splits.",
    )
    images: Path | None = Field(
        default=None,
        description="The folder that image paths are in; null is the path itself, or the file's folder.",
    )
    judge: str = Field(
        default="unknown",
        min_length=1,
        description="Who judged: the name that labels get where the rows don't say it.",
    )
    limit: int | None = Field(default=None, ge=1, description="Read at most so many rows; null reads all.")
    ignore_fields: list[str] = Field(
        default=[],
        description="Fields that are left out, as if the rows hadn't them; OUTER.INNER is one in an object or in each "
        "of a list of them. A row with a picture, a video, a sound or tools in any other that the adapter doesn't read "
        "is refused.",
    )

    marks: ClassVar[tuple[str, ...]] = ()
    pictures: ClassVar[tuple[str, ...]] = ()  # the fields that pictures are read from
    judged: ClassVar[bool] = True  # whether its rows have labels, so that `judge` means something
    whole: ClassVar[bool] = False
    grouped: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_judge(self) -> FileSource:
        if not self.judged and "judge" in self.model_fields_set:
            raise ValueError(
                "judge does nothing, since nothing is judged in rows of this format; leave it out"
            )
        return self

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord | tuple[PreferenceRecord, ...]:
        """A row as its record or records.

        Raises:
            RowError: it can't be one; SchemaError counts as that too.
        """
        raise NotImplementedError(f"{type(self).__name__} has no convert method")

    def key(self, row: dict[str, Any]) -> str | None:
        """What a row shares with those beside it that make one record with it, of an adapter that is `grouped`; None
        where it stands alone.
        """
        return None

    def convert_group(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> Sequence[Read]:
        """What came of each of several rows (place, row) of one key: the record with one of them, nothing with the
        others. Like `adapt`, it never raises.
        """
        return [self.adapt(row, where) for where, row in rows]

    def finish(self, reads: Iterator[Read]) -> Iterator[Read]:
        """What is made of all that was read, of an adapter that is `whole`."""
        return reads

    @property
    def picture_fields(self) -> Sequence[str]:
        """The fields that pictures are read from, to be named in refusals."""
        return self.pictures

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        """Why the row looks like one of this format; None where it doesn't. In a table of several forms a row has null
        where it lacks a field, so that doesn't count.
        """
        if cls.marks and all(row.get(mark) is not None for mark in cls.marks):
            return f"has {', '.join(cls.marks)}"
        return None

    @cached_property  # asked for each row, and it looks at the disk
    def image_root(self) -> Path | tuple[Path, ...]:
        """The folder that image paths are in, or several of them."""
        return self.images or image_folders(self.path)

    def adapt(self, row: object, where: str = "row") -> Read:
        """The record or records of a row, or the reason why not; never raises for what a row holds."""

        def checked(fields: dict[str, Any]) -> tuple[PreferenceRecord, ...]:
            made = self.convert(fields, where)
            records = (made,) if isinstance(made, PreferenceRecord) else made
            return tuple([check_judgements(record, fields) for record in records])

        return guarded(self.reading_all_media(checked), row, where)

    def reading_all_media(
        self, convert: Callable[[dict[str, Any]], MadeT]
    ) -> Callable[[dict[str, Any]], MadeT]:
        """`convert` of rows without `ignore_fields`; RowError is raised for those with a picture, a video or a sound
        that it didn't ask for.
        """

        def converted(row: dict[str, Any]) -> MadeT:
            kept, ignored = without_fields(row, self.ignore_fields) if self.ignore_fields else (row, [])
            watched = Watched(kept)
            try:
                made = convert(watched)
            except RowError as error:
                words = set(re.findall(r"\w+", str(error)))
                lacking = [name for name in ignored if name.rpartition(".")[2] in words]
                if not lacking:
                    raise
                why = f"{error} (ignore_fields leaves {', '.join(lacking)} out)"
                raise RowError(why, error.code, error.image) from error
            name = (
                str(type(self).model_fields["type"].default)
                if "type" in type(self).model_fields
                else self.name
            )
            setting = "image" if "image" in type(self).model_fields else None
            refuse_unread_media(watched, _count_images(made), name, self.picture_fields, setting)
            return made

        return converted

    def files(self) -> Sequence[Path]:
        """The files of rows; images aren't among them, and a hub data set has none of the user's."""
        if is_hub_name(self.path):
            return ()
        return tuple(dict.fromkeys(Path(piece.path) for piece in self._pieces()))

    def origin(self) -> Sequence[str]:
        return tuple(piece.path for piece in self._pieces()) if is_hub_name(self.path) else ()

    def uncompared(self, pictured: bool) -> str:
        if is_hub_name(self.path):
            return "what the hub has now"
        return "pictures that rows name as files" if pictured else ""

    def passed_over(self) -> Sequence[str]:
        try:
            return passed_over(self.path)
        except OSError:  # of which `pieces` tells
            return ()

    def pieces(self) -> Sequence[Piece]:
        return () if self.whole or self.limit is not None else self._pieces()

    def _pieces(self) -> Sequence[Piece]:
        """The pieces of its files; a file is one piece where neighbouring rows belong together."""
        found = pieces(self.path, self.subset, self.split)
        if not self.grouped:
            return found
        joined: list[Piece] = []
        for piece in found:
            last = joined[-1] if joined else None
            if last and (last.path, last.stop) == (piece.path, piece.start):
                joined[-1] = replace(last, stop=piece.stop)
            else:
                joined.append(piece)
        return joined

    def read(self, seed: int, piece: Piece | None = None) -> Iterator[Read]:
        rows = ((part, item) for part in ((piece,) if piece else self._pieces()) for item in read_rows(part))
        yield from self.finish(self._adapted(islice(rows, self.limit)))

    def _adapted(self, rows: Iterable[tuple[Piece, tuple[str, Any] | Rejected]]) -> Iterator[Read]:
        """What came of each row, given with its piece: no group goes on in the next one, and its records are in the
        split of the piece.
        """

        def shared(found: tuple[Piece, tuple[str, Any] | Rejected]) -> tuple[Piece, str] | object:
            part, item = found
            row = None if isinstance(item, Rejected) else item[1]
            name = self.key(row) if self.grouped and isinstance(row, dict) else None
            return object() if name is None else (part, name)  # an object equals nothing but itself

        for _, same in groupby(rows, shared):
            while group := list(islice(same, MOST_GROUPED)):
                part = group[0][0]
                good = [item for _, item in group if not isinstance(item, Rejected)]
                if len(good) > 1:
                    yield from (_in_split(item, part.split) for item in self.convert_group(good))
                    continue
                ((_, item),) = group  # a row that can't be read shares its key with no other
                yield (
                    item
                    if isinstance(item, Rejected)
                    else _in_split(self.adapt(item[1], item[0]), part.split)
                )

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """All records and rejected rows; nothing here is random."""
        for item in self.read(seed):
            yield from (item,) if isinstance(item, Rejected) else item


def _count_images(made: object) -> int:
    """How many pictures the record, or that of several which has the most, holds."""
    records = made if isinstance(made, tuple) else (made,)
    return max((len(record.images) for record in records if isinstance(record, PreferenceRecord)), default=0)


def _in_split(item: Read, split: str | None) -> Read:
    if split is None or isinstance(item, Rejected):
        return item
    return tuple(record if record.split == split else replace(record, split=split) for record in item)


def guarded(convert: Callable[[dict[str, Any]], MadeT], row: object, where: str) -> MadeT | Rejected:
    """What `convert` makes of the row, or the reason why it couldn't."""
    if not isinstance(row, dict):
        return Rejected("the row is no JSON object", where, "row-unreadable", row)
    try:
        return convert(row)
    except RowError as error:
        return Rejected(str(error), where, error.code, row, error.image)
    except SchemaError as error:
        # without the record's id, so that equal faults are counted as one
        return Rejected(str(error).partition(": ")[2] or str(error), where, "schema", row)
