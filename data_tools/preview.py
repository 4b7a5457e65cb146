"""A page of samples to look through before anything is trained on them: images, prompts, answers, what was judged.

The page is one file without scripts or addresses. A set of any size is sampled by reading the shards that were drawn.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.atomic import write_text, writing_to
from data_tools.errors import UserError
from data_tools.images import ImageError, check_image, data_url, decode_image
from data_tools.manifest import Manifest, ShardInfo, read_manifest
from data_tools.pages.templates import environment
from data_tools.preview_sample import sample_view
from data_tools.schema import ImageRef, PreferenceRecord
from data_tools.shard_index import RecordIndex
from data_tools.shards import RecordSet

SIDE = 400  # pixels of a thumbnail
EMBEDDED = 64 * 1024  # an image of so many bytes at most stands in the page as it is


@dataclass(frozen=True)
class Choice:
    """Which records are drawn: how many, of one split or source or of all, with what seed."""

    samples: int = 50
    split: str | None = None
    source: str | None = None
    seed: int = 0

    def __str__(self) -> str:
        """Of what they are drawn, in words; empty for everything."""
        of = f" of the {self.split} split" if self.split is not None else ""
        return of + (f" from {self.source}" if self.source is not None else "")


def write_preview(directory: str | Path, page: str | Path, choice: Choice = Choice()) -> int:
    """Writes a page of samples, and returns how many they are.

    Raises:
        UserError: the data can't be read, have no such split or source, or the page can't be written.
    """
    directory, page = Path(directory), Path(page)
    manifest = read_manifest(directory)
    shards = _of(directory, manifest, choice)
    drawn = list(_drawn(directory, shards, choice))
    pages = environment("data_tools.pages")
    pages.filters["number"] = "{:,}".format
    text = pages.get_template("preview.html").render(
        name=directory.resolve().name,
        seed=choice.seed,
        chosen=str(choice),
        chosen_from=sum(shard.records for shard in shards),
        counts=_counts(manifest),
        objectives=_objectives(manifest),
        samples=[sample_view(record, [_thumbnail(image) for image in record.images]) for record in drawn],
    )
    with writing_to(page):
        page.parent.mkdir(parents=True, exist_ok=True)
        # half a character, which JSON can hold, can't be written
        write_text(page, text.encode("utf-8", "replace").decode())
    return len(drawn)


def _of(directory: Path, manifest: Manifest, choice: Choice) -> list[ShardInfo]:
    """The shards that are drawn from."""
    shards = list(manifest.shards)
    for what, name in (("split", choice.split), ("source", choice.source)):
        known = sorted({getattr(shard, what) for shard in shards})
        if name is not None:
            shards = [shard for shard in shards if getattr(shard, what) == name]
            if not shards:
                raise UserError(f"{directory}: has no {what} {name!r}; it has: {', '.join(known) or 'none'}")
    return shards


def _drawn(directory: Path, shards: Sequence[ShardInfo], choice: Choice) -> Iterator[PreferenceRecord]:
    """The records, those of one split, source, kind and modality together."""
    groups: dict[tuple[str, str, str, str], list[ShardInfo]] = {}
    for shard in shards:
        groups.setdefault((shard.split, shard.source, shard.kind, shard.modality), []).append(shard)
    sizes = {key: sum(shard.records for shard in groups[key]) for key in sorted(groups)}
    generator = random.Random(choice.seed)
    for key, number in shares(sizes, choice.samples).items():
        # numbers counted through the group's shards, each of which is opened once
        numbers = sorted(generator.sample(range(sizes[key]), number))
        first = 0
        for shard in groups[key]:
            inside = [place - first for place in numbers if first <= place < first + shard.records]
            if inside:
                records = RecordSet(directory, shard.split, shard.kind, RecordIndex(directory, [shard]))
                yield from (records[place] for place in inside)
            first += shard.records


def shares(sizes: dict[Any, int], total: int) -> dict[Any, int]:
    """How many of `total` each group gives: one after the other gives one more, until it has none left."""
    given = dict.fromkeys(sizes, 0)
    while total > 0:
        able = [key for key in sizes if given[key] < sizes[key]]
        if not able:
            break
        for key in able[:total]:
            given[key] += 1
        total -= len(able)
    return given


def _counts(manifest: Manifest) -> list[tuple[str, str, str, str, int]]:
    counts: dict[tuple[str, str, str, str], int] = {}
    for shard in manifest.shards:
        key = (shard.split, shard.source, shard.kind, shard.modality)
        counts[key] = counts.get(key, 0) + shard.records
    return [(*key, number) for key, number in sorted(counts.items())]


def _objectives(manifest: Manifest) -> list[tuple[str, str, list[int]]]:
    """By split and objective, the numbers of comparisons, rankings, ratings, and of these yes or no."""
    found: dict[tuple[str, str], list[int]] = {}
    for shard in manifest.shards:
        kinds = (shard.objectives, shard.rankings, shard.ratings, shard.binaries or {})
        for place, counts in enumerate(kinds):
            for objective, number in counts.items():
                found.setdefault((shard.split, objective), [0] * len(kinds))[place] += number
    return [(split, objective, numbers) for (split, objective), numbers in sorted(found.items())]


def _thumbnail(ref: ImageRef) -> dict[str, Any]:
    """What the page shows of an image: the file itself where it is small, else a JPEG."""
    assert ref.data is not None
    try:
        found = check_image(ref.data)
        caption = f"{found.width} x {found.height}, {len(ref.data):,} bytes"
        factor = min(1.0, SIDE / max(found.width, found.height))
        width, height = (max(1, round(side * factor)) for side in (found.width, found.height))
        if len(ref.data) <= EMBEDDED:
            source = data_url(ref)
        else:
            buffer = io.BytesIO()
            decode_image(ref.data).resize((width, height)).save(buffer, "JPEG", quality=85)
            source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    except ImageError as error:
        return {"error": str(error)}
    notes = "".join(f"; {note}" for note in ref.notes)
    return {"error": "", "source": source, "width": width, "height": height, "caption": caption + notes}
