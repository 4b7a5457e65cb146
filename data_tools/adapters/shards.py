"""A finished data directory as a source: what `mmrlhf data convert` or `build` made goes into a mixture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_tools.errors import UserError
from data_tools.manifest import MANIFEST, ShardInfo, read_manifest
from data_tools.rows.piece import Piece
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_shard
from data_tools.source import Read, Rejected, Source


class ShardsConfig(Source):
    """Every record of a data directory, under this source's name; its images are passed on as they are."""

    type: Literal["shards"] = "shards"
    path: Path = Field(description="The data directory.")
    keep_splits: bool = Field(
        default=False,
        description="Leave each record in the split that it has there, instead of drawing one, as `data convert` "
        "always does.",
    )

    def files(self) -> Sequence[Path]:
        return [self.path / MANIFEST, *(self.path / shard.name for shard in read_manifest(self.path).shards)]

    def pieces(self) -> Sequence[Piece]:
        return [self._piece(shard) for shard in read_manifest(self.path).shards]

    def _piece(self, shard: ShardInfo) -> Piece:
        return Piece(str(self.path / shard.name), "tar", shard.name)

    def read(self, seed: int, piece: Piece | None = None) -> Iterator[Read]:
        """The records of the directory, or of one of its shards; a record that is damaged is rejected.

        Raises:
            UserError: a shard can't be read as one.
        """
        shards = read_manifest(self.path).shards
        many = len({shard.source for shard in shards}) > 1
        for shard in shards:
            if piece and shard.name != piece.place:
                continue
            records = open_shard(self.path, shard)
            for index in range(len(records)):
                try:
                    yield (self._renamed(records[index], many),)
                except UserError as error:
                    yield Rejected("damaged in the shard", str(error), "row-unreadable")

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """All records, in the order of the shards."""
        for item in self.read(seed):
            yield from (item,) if isinstance(item, Rejected) else item

    def _renamed(self, record: PreferenceRecord, many: bool) -> PreferenceRecord:
        """The record as this source's own; names that meant something within a source of the directory keep that
        meaning where it has several.
        """
        provenance = dict(record.provenance)
        if many:
            for kind in ("flip", "group"):
                if isinstance(provenance.get(kind), str):
                    provenance[kind] = f"{record.source}/{provenance[kind]}"
        if self.keep_splits:
            provenance["split"] = record.split
        name = f"{record.source}/{record.id}" if many else record.id
        return replace(record, id=name, source=self.name, provenance=provenance)
