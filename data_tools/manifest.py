"""The manifest of a data directory: which shards belong to it, what each holds, and their hashes.

It is written last, so a directory without one is an unfinished one and isn't read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from data_tools.atomic import write_text
from data_tools.errors import UserError
from data_tools.schema import Modality

MANIFEST = "manifest.json"
FORMAT, VERSION = "mmrlhf-shards", 1
Kind = Literal["preference", "demonstration", "prompt"]
KINDS: tuple[Kind, ...] = ("preference", "demonstration", "prompt")


@dataclass(frozen=True)
class ShardInfo:
    """One finished shard.

    `bytes` is the size of the file; by objective, `objectives` counts comparisons, `ratings` ratings of either kind and
    `rankings` rankings; `binaries` counts those of the ratings that are yes or no (None: an older manifest, which
    doesn't tell). `repeat` is how often an epoch of the mixture shows each of its records, on the average.
    """

    name: str
    sha256: str
    records: int
    bytes: int
    source: str
    kind: Kind
    modality: Modality
    split: str
    objectives: dict[str, int] = field(default_factory=dict)
    ratings: dict[str, int] = field(default_factory=dict)
    rankings: dict[str, int] = field(default_factory=dict)
    binaries: dict[str, int] | None = None
    repeat: float = 1.0

    @property
    def judged(self) -> set[str]:
        """The objectives on which anything was judged here, in whatever way."""
        return {*self.objectives, *self.ratings, *self.rankings}


class Manifest(BaseModel):
    """What `manifest.json` holds; `counts` are records by split, kind and modality, such as
    train/prompt/text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mmrlhf-shards"]
    version: int
    records: int
    counts: dict[str, int]
    shards: tuple[ShardInfo, ...]
    extra: dict[str, Any]


def counts_of(shards: Sequence[ShardInfo]) -> dict[str, int]:
    """Records by split, kind and modality."""
    counts: Counter[str] = Counter()
    for shard in shards:
        counts[f"{shard.split}/{shard.kind}/{shard.modality}"] += shard.records
    return dict(sorted(counts.items()))


def write_manifest(directory: Path, shards: list[ShardInfo], extra: dict[str, Any]) -> None:
    """Writes the manifest, atomically; the directory is complete from then on."""
    row = {
        "format": FORMAT,
        "version": VERSION,
        "records": sum(shard.records for shard in shards),
        "counts": counts_of(shards),
        "shards": [asdict(shard) for shard in shards],
        "extra": extra,
    }
    write_text(directory / MANIFEST, json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a complete data directory.

    Raises:
        UserError: there is none, it is damaged or of another version, or a shard is missing, extra or of
            another size than the manifest says.
    """
    manifest = parse_manifest(directory)
    for name, problem in file_problems(directory, manifest):
        raise UserError(f"{directory / name}: {problem}")
    return manifest


def parse_manifest(directory: Path) -> Manifest:
    """What the manifest says, whether or not the shards are there; raises as `read_manifest` does for the rest."""
    path = directory / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        what = (
            "no such folder"
            if not directory.exists()
            else "has no manifest.json, so it is no finished data set"
        )
        raise UserError(
            f"{directory}: {what}; make one with `mmrlhf data build CONFIG -o {directory}`"
        ) from None
    except NotADirectoryError:
        raise UserError(f"{directory}: is a file; name the folder that a build or conversion made") from None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error})") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: damaged: {place}: {first['msg']}") from None
    if manifest.version != VERSION:
        raise UserError(
            f"{path}: of version {manifest.version}; this program reads {VERSION}; build the data again"
        )
    return manifest


def file_problems(directory: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of a directory as a look at it tells: the name of a file, and what."""
    names = [shard.name for shard in manifest.shards]
    if len(set(names)) < len(names):
        yield MANIFEST, "damaged: names a shard twice"
    present = {path.name: path.stat().st_size for path in directory.glob("*.tar")}
    for shard in manifest.shards:
        # looked up among the folder's own files, so a name such as ../x can't lead out of it
        if shard.name not in present:
            yield shard.name, "missing, but the manifest lists it; build the data again"
        elif present[shard.name] != shard.bytes:
            yield (
                shard.name,
                f"has {present[shard.name]:,} bytes, the manifest says {shard.bytes:,}; it is truncated or was changed",
            )
    for name in sorted(present.keys() - set(names)):
        yield name, "not in the manifest; a shard of another build? Remove it"
