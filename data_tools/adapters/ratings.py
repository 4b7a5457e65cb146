"""Ratings as public data sets write them, and the sheet on which those of one row's responses are collected.

A rating that can't be read is left out, and the record's provenance says so; it is never guessed from the words around
it. Left out on purpose: making comparisons out of ratings; equal ratings would become a choice that nobody made.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field, field_validator

from data_tools.adapters.base import FileSource, RowError, check_text, model_name
from data_tools.adapters.provenance import plain, told
from data_tools.schema import (
    Comparison,
    Critique,
    ImageRef,
    Message,
    PreferenceRecord,
    Ranking,
    Rating,
    Response,
)

WORDS = ("Rationale", "Rationale For Rating")  # what an annotation says beside its rating
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def read_rating(value: object, low: float, high: float) -> tuple[float | None, str]:
    """A rating as a number from `low` to `high` and "", or None and why it is none.

    Numbers count, and texts that are one, such as "4", "4.0" or " 5 ". No other text is searched for one: "N/A" and
    "five" are none, nor is a rationale that speaks of "Rating: 2".
    """
    if value is None:
        return None, "there is none"
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None, "not a number"
    if not low <= value <= high:
        return None, f"not from {low:g} to {high:g}"
    return float(value), ""


def has_annotations(completions: object) -> bool:
    """Whether completions say how they were rated, as a list of objects or as an object of lists."""
    first = completions[0] if isinstance(completions, list) and completions else completions
    return isinstance(first, dict) and first.get("annotations") is not None


def signed_comparison(value: float, objective: str, judge: str, negative_is_first: bool = True) -> Comparison:
    """The comparison of two answers that a number is: 0 a tie, else its size is the margin, and a negative one says
    that the first is better, unless `negative_is_first` is false.
    """
    if value == 0:
        return Comparison(objective, better=0, worse=1, tie=True, judge=judge)
    better = 0 if (value < 0) == negative_is_first else 1
    return Comparison(objective, better, 1 - better, margin=float(abs(value)), judge=judge)


def sum_votes(votes: Sequence[Comparison], judge: str) -> Iterator[Comparison]:
    """What the votes on two answers come to, on each objective in the order of the votes: the answer that more of them
    chose is better; as many for each, or none for any, is a tie.
    """
    for objective in dict.fromkeys(vote.objective for vote in votes):
        cast = [vote for vote in votes if vote.objective == objective and not vote.tie]
        ahead = sum(1 if vote.better == 0 else -1 for vote in cast)
        better = 0 if ahead >= 0 else 1
        yield Comparison(objective, better, 1 - better, tie=ahead == 0, judge=judge)


class RatedSource(FileSource):
    """Base of the formats that rate responses by aspects.

    An adapter names its `aspects`, each with the objective that it is a rating of where the user says nothing else.
    """

    objectives: dict[str, str] = Field(
        default_factory=dict,
        description="Other objectives for the format's aspects: {aspect: objective}, each aspect by its name in the "
        "data.",
    )
    judge: str = Field(default="human", min_length=1, description="Who rated.")

    aspects: ClassVar[dict[str, str]] = {}

    @field_validator("objectives")
    @classmethod
    def _objectives(cls, value: dict[str, str]) -> dict[str, str]:
        owners: dict[str, str] = {}
        for aspect, objective in {**cls.aspects, **value}.items():
            if aspect not in cls.aspects:
                raise ValueError(f"{aspect!r} is no aspect of this format; it has {', '.join(cls.aspects)}")
            if not objective:
                raise ValueError(f"the objective of {aspect!r} is empty")
            if objective in owners:
                raise ValueError(
                    f"{owners[objective]!r} and {aspect!r} would both be ratings of {objective!r}; give each "
                    "an objective of its own"
                )
            owners[objective] = aspect
        return value

    def objective_of(self, aspect: str) -> str:
        """The objective that an aspect's ratings are of."""
        return self.objectives.get(aspect, self.aspects[aspect])


@dataclass
class Sheet:
    """What was judged about the responses to one prompt, while its row or rows are being read."""

    source: RatedSource
    responses: list[Response] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    critiques: list[Critique] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)  # completions without an answer
    unread: list[dict[str, Any]] = field(default_factory=list)  # ratings that are none
    details: list[dict[str, Any]] = field(
        default_factory=list
    )  # what else an annotation says, such as a type

    def answers(
        self, completions: Sequence[dict[str, Any]], models: object = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Adds each completion's `response`; gives its index and the completion, of those that have one. `models` are
        the row's own list of who wrote them, for completions that don't say it.

        Raises:
            RowError: none has one.
        """
        if not completions:
            raise RowError("completions is empty", "no-preference")
        known = models if isinstance(models, list) and len(models) == len(completions) else None
        for number, completion in enumerate(completions):
            text = completion.get("response")
            if not isinstance(text, str) or not text.strip():
                why = "empty" if text is None or isinstance(text, str) else "no text"
                self.left_out.append({"completion": number, "why": f"response is {why}"})
                continue
            model = completion.get("model") or (known[number] if known else None)
            yield self.answer(check_text(text, "response"), model), completion
        if not self.responses:
            raise RowError("the response of every completion is empty", "text-empty")

    def answer(self, text: str, model: object = None) -> int:
        """Adds a response; its index."""
        self.responses.append(Response(text, model_name(model)))
        return len(self.responses) - 1

    def rate(self, response: int, aspect: str, value: object, low: float, high: float) -> None:
        """Adds a rating, or says in the provenance why it is none."""
        number, why = read_rating(value, low, high)
        if number is None:
            said = {} if value is None else {"value": plain(value)}
            self.unread.append({"response": response, "aspect": aspect, **said, "why": why})
            return
        objective = self.source.objective_of(aspect)
        self.ratings.append(Rating(objective, response, number, float(low), float(high), self.source.judge))

    def annotate(
        self, response: int, annotations: object, aspects: Collection[str], low: float, high: float
    ) -> None:
        """Adds what `{aspect: {"Rating": ..., "Rationale": ...}}` says of a response: a rating and the words, of each
        of `aspects`. What else it says, such as UltraFeedback's `Type`, is a detail for the provenance.
        """
        given = annotations if isinstance(annotations, dict) else {}
        for aspect in aspects:
            said = given.get(aspect)
            if not isinstance(said, dict):
                said = {"Rating": said}
            self.rate(response, aspect, said.get("Rating"), low, high)
            for key in WORDS:
                self.criticise(said.get(key), response, self.source.objective_of(aspect))
            if more := told(said, [key for key in said if key not in ("Rating", *WORDS)]):
                self.details.append({"response": response, "aspect": aspect, **more})
        for aspect in given:
            if aspect not in aspects and given[aspect] is not None:
                why = "not an aspect of this format"
                self.unread.append(
                    {"response": response, "aspect": plain(aspect), "value": plain(given[aspect]), "why": why}
                )

    def criticise(self, text: object, response: int | None, objective: str = "") -> None:
        """Adds a judge's words, where there are any."""
        if isinstance(text, str) and text.strip():
            words = check_text(text, "a rationale")
            self.critiques.append(Critique(words, response, objective, self.source.judge))

    def record(
        self,
        where: str,
        prompt: Sequence[Message],
        provenance: dict[str, Any],
        images: Sequence[ImageRef] = (),
    ) -> PreferenceRecord:
        """The record of all that was added.

        Raises:
            RowError: nothing was rated or ranked.
        """
        if not self.ratings and not self.rankings:
            raise RowError("no response has a rating that can be read", "no-preference")
        notes = {"left_out": self.left_out, "unread": self.unread, "annotations": self.details}
        return PreferenceRecord(
            id=f"{self.source.name}-{where}",
            source=self.source.name,
            prompt=tuple(prompt),
            responses=tuple(self.responses),
            images=tuple(images),
            ratings=tuple(self.ratings),
            rankings=tuple(self.rankings),
            critiques=tuple(self.critiques),
            provenance={**provenance, **{key: note for key, note in notes.items() if note}},
        )
