"""NLVR: human statements that are true or false of a picture -> yes/no preferences, joined into image-flip
pairs.

A statement is put as a question about the picture; the answers "Yes." and "No." are the same in every record,
and most sentences are true of one picture and false of another: such two form a flip pair, which nobody can
get right without looking.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    Rejected,
    RowError,
    guarded,
    read_rows,
    take_image,
    take_text,
)
from data_tools.scenes.language import verify_prompt
from data_tools.scenes.nlvr import scene_from_nlvr
from data_tools.schema import Comparison, PreferenceRecord, Response, user
from data_tools.union import UnionFind

_IDENTIFIER = re.compile(r"(?P<group>[0-9]{1,9})-[0-9]{1,9}")


class NlvrConfig(FileSource):
    """Cornell NLVR: one split's JSON lines, with its image folder beside it."""

    type: Literal["nlvr"] = "nlvr"
    images: Path | None = Field(
        default=None, description="The folder of the images; null is `images` beside the file."
    )
    prefix: str | None = Field(
        default=None, description="How image names begin (`dev` in dev-1-0-0.png); null is the file's name."
    )
    permutations: int = Field(
        default=1,
        ge=1,
        le=6,
        description="How many of the six orders of the three boxes to take, each a record.",
    )

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """See `read`; nothing here is random."""
        return read(self)


def adapt(
    row: object, config: NlvrConfig, where: str = "row", permutation: int = 0
) -> PreferenceRecord | Rejected:
    """A row with one of its six images as a record, or the reason why not."""
    return guarded(lambda fields: _convert(fields, config, permutation), row, where)


def read(config: NlvrConfig) -> Iterator[PreferenceRecord | Rejected]:
    """All rows of the file; one true and one false record of each sentence share `provenance["flip"]`."""
    records: list[PreferenceRecord] = []
    for item in read_rows(config.path, config.limit):
        if isinstance(item, Rejected):
            yield item
            continue
        where, row = item
        for permutation in range(config.permutations):
            result = adapt(row, config, where, permutation)
            if isinstance(result, Rejected):
                yield result
                break  # the other permutations have the same fault
            records.append(result)
    yield from _with_flips(_with_groups(records))


def _convert(row: dict[str, Any], config: NlvrConfig, permutation: int) -> PreferenceRecord:
    identifier = take_text(row, "identifier")
    match = _IDENTIFIER.fullmatch(identifier)
    if not match:
        raise RowError("identifier is not of the form n-m")
    directory = take_text(row, "directory")
    if not directory.isalnum():
        raise RowError("directory is no plain name")
    label = take_text(row, "label")
    if label not in ("true", "false"):
        raise RowError('label is neither "true" nor "false"')
    sentence = " ".join(take_text(row, "sentence").split())
    try:
        scene = scene_from_nlvr(row.get("structured_rep"), permutation)
    except ValueError as error:
        raise RowError(str(error)) from error
    name = f"{config.prefix or config.path.stem}-{identifier}-{permutation}.png"
    image = take_image(f"{directory}/{name}", config.images or config.path.parent / "images")
    better = 0 if label == "true" else 1
    return PreferenceRecord(
        id=f"{config.name}-{identifier}-{permutation}",
        source=config.name,
        prompt=(user(0, verify_prompt(sentence)),),
        responses=(Response("Yes."), Response("No.")),
        images=(image,),
        comparisons=(Comparison("factuality", better=better, worse=1 - better),),
        scenes=(scene.to_json(),),
        reference={"answer": "yes" if label == "true" else "no"},
        provenance={"group": match["group"], "sentence": sentence},
    )


def _with_groups(records: list[PreferenceRecord]) -> list[PreferenceRecord]:
    """The records with one group for all whose number n or sentence are linked, so that no split separates
    them.
    """
    links = UnionFind[str]()
    for record in records:
        links.join([record.provenance["group"], f"sentence {record.provenance['sentence']}"])
    names: dict[str, str] = {}  # each set is named by the first number that stands in the file
    for record in records:
        names.setdefault(links.find(record.provenance["group"]), record.provenance["group"])
    return [
        dataclasses.replace(
            record,
            provenance={**record.provenance, "group": names[links.find(record.provenance["group"])]},
        )
        for record in records
    ]


def _with_flips(records: list[PreferenceRecord]) -> list[PreferenceRecord]:
    """The first true and the first false record of each sentence joined by a flip id, their prompts being
    equal.
    """
    firsts: dict[str, dict[str, str]] = {}
    for record in records:
        firsts.setdefault(record.provenance["sentence"], {}).setdefault(record.reference["answer"], record.id)
    flips = {
        record_id: f"{found['yes']}+{found['no']}"
        for found in firsts.values()
        if len(found) == 2
        for record_id in found.values()
    }
    return [
        dataclasses.replace(record, provenance={**record.provenance, "flip": flips[record.id]})
        if record.id in flips
        else record
        for record in records
    ]
