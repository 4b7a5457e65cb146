"""NLVR: human statements that are true or false of a picture -> yes/no preferences, joined into image-flip
pairs.

A statement is put as a question about the picture; the answers "Yes." and "No." are the same in every record,
and most sentences are true of some pictures and false of others: two such records form a flip pair, which nobody can
get right without looking. The label is what most raters said; what each of them said is kept as a vote.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, check_text, take_image, take_text
from data_tools.rows.open import image_folder
from data_tools.scenes.language import verify_prompt
from data_tools.scenes.nlvr import scene_from_nlvr
from data_tools.schema import Comparison, PreferenceRecord, Response, user
from data_tools.source import Read, Rejected
from data_tools.union import UnionFind

NONSENSE = "nonsense"  # what some raters said of the sentence: a vote for neither answer
_IDENTIFIER = re.compile(r"(?P<group>[0-9]{1,9})-[0-9]{1,9}")


class NlvrConfig(FileSource):
    """Cornell NLVR: one split's JSON lines, with its image folder beside it."""

    type: Literal["nlvr"] = "nlvr"
    images: Path | None = Field(
        default=None, description="The folder of the images; null is `images` beside the file."
    )
    judge: str = Field(
        default="human", min_length=1, description="Who judged; single raters' votes have the raters' names."
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

    marks: ClassVar[tuple[str, ...]] = ("sentence", "label", "identifier", "directory")
    whole: ClassVar[bool] = True  # flip pairs and groups join rows that stand anywhere

    @cached_property
    def image_root(self) -> Path:
        return self.images or image_folder(self.path) / "images"

    @cached_property
    def _split(self) -> str:
        """How the file is called, without `.json` and `.json.gz`."""
        packed = self.path.suffix.lower() == ".gz"
        return (self.path.with_suffix("") if packed else self.path).stem

    def convert(self, row: dict[str, Any], where: str) -> tuple[PreferenceRecord, ...]:
        """A record for each of the row's permutations."""
        return tuple(self._permuted(row, permutation) for permutation in range(self.permutations))

    def finish(self, reads: Iterator[Read]) -> Iterator[Read]:
        """The k-th true and the k-th false record of each sentence share `provenance["flip"]`."""
        rows: list[tuple[PreferenceRecord, ...]] = []
        for item in reads:
            if isinstance(item, Rejected):
                yield item
            else:
                rows.append(item)
        records = iter(_with_flips(_with_groups([record for row in rows for record in row])))
        for row in rows:
            yield tuple(islice(records, len(row)))

    def _permuted(self, row: dict[str, Any], permutation: int) -> PreferenceRecord:
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
        votes, nonsense = _votes(row)
        name = f"{self.prefix or self._split}-{identifier}-{permutation}.png"
        image = take_image(f"{directory}/{name}", self.image_root)
        better = 0 if label == "true" else 1
        return PreferenceRecord(
            id=f"{self.name}-{identifier}-{permutation}",
            source=self.name,
            prompt=(user(0, verify_prompt(sentence)),),
            responses=(Response("Yes."), Response("No.")),
            images=(image,),
            comparisons=(Comparison("factuality", better=better, worse=1 - better, judge=self.judge),),
            votes=votes,
            scenes=(scene.to_json(),),
            reference={"answer": "yes" if label == "true" else "no"},
            provenance={
                "group": match["group"],
                "sentence": sentence,
                "permutation": permutation,
                **({NONSENSE: nonsense} if nonsense else {}),
            },
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
    """True and false records of each sentence joined one to one, in their order, by a flip id; their prompts are equal.

    Records pair within their number of permutation, so that both pictures of a pair have been changed alike; what has
    no partner stays without.
    """
    sides: defaultdict[tuple[str, int], dict[str, list[int]]] = defaultdict(lambda: {"yes": [], "no": []})
    seen: set[str] = set()
    for index, record in enumerate(records):
        place = record.provenance["sentence"], record.provenance["permutation"]
        if record.id not in seen:  # of a row that stands twice, the second is left to the build
            sides[place][record.reference["answer"]].append(index)
        seen.add(record.id)
    out = list(records)
    for side in sides.values():
        for pair in zip(side["yes"], side["no"], strict=False):
            flip = "+".join(records[index].id for index in pair)
            for index in pair:
                provenance = {**records[index].provenance, "flip": flip}
                out[index] = dataclasses.replace(records[index], provenance=provenance)
    return out


def _votes(row: dict[str, Any]) -> tuple[tuple[Comparison, ...], list[str]]:
    """What each rater of `evals` held right, and the raters who found no sense in the sentence."""
    given = row.get("evals")
    if given is None:
        return (), []
    if not isinstance(given, dict):
        raise RowError("evals is no object of raters and what they said")
    votes, nonsense = [], []
    for rater in sorted(given, key=str):
        said = given[rater]
        if said is None:
            continue  # read from Parquet, every row has a field for every rater
        judge = check_text(rater, "a rater of evals")
        if said == NONSENSE:
            nonsense.append(judge)
        elif said in ("true", "false"):
            better = 0 if said == "true" else 1
            votes.append(Comparison("factuality", better=better, worse=1 - better, judge=judge))
        else:
            raise RowError("a rater of evals said none of true, false, nonsense")
    return tuple(votes), nonsense
