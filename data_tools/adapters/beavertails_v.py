"""BeaverTails-V: two answers to a risky question, judged apart for helpfulness and for safety.

The two choices may disagree. Whether an answer is safe is a yes or a no, and `harmless_rate` a whole number from -3 to
3, 0 and above for the safe ones: so public code that trains on this data checks it in all twenty categories. Nothing
public tells the scale of `helpful_rate`, so it stays in the provenance. Another revision has one answer a row, safe or
not.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    RowError,
    model_name,
    take_choice,
    take_text,
)
from data_tools.adapters.pictured import pictured
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import read_rating
from data_tools.schema import Comparison, PreferenceRecord, Rating, Response

PAIR = ("response_1", "response_2")
SINGLE = ("response",)
CHOICES = {"more_helpful_response_id": "helpfulness", "safer_response_id": "safety"}
ANSWERS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}
USED = (
    "id",
    "question",
    "image",
    "category",
    "image_severity",
    *CHOICES,
    *(
        part.format(name)
        for name in (*SINGLE, *PAIR)
        for part in ("{}", "{}_from", "is_{}_safe", "{}_harmless_rate", "{}_helpful_rate")
    ),
)
LOW, HIGH = -3.0, 3.0  # of harmless_rate


class BeavertailsVConfig(FileSource):
    """BeaverTails-V: the rows of a category, of either revision."""

    type: Literal["beavertails_v"] = "beavertails_v"
    judge: str = Field(default="unknown", min_length=1, description="Who judged; the rows don't say.")

    marks: ClassVar[tuple[str, ...]] = ("question", "image", *PAIR, *CHOICES)
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        single = row.get("response") is not None and all(row.get(name) is None for name in PAIR)
        names = SINGLE if single else PAIR
        responses = tuple(
            Response(take_text(row, name), model_name(row.get(f"{name}_from"))) for name in names
        )
        if len({response.text for response in responses}) < len(names):
            raise RowError("response_1 and response_2 are the same answer", "same-answers")
        comparisons = tuple(
            Comparison(objective, better=better, worse=1 - better, judge=self.judge)
            for key, objective in CHOICES.items()
            if names == PAIR and (better := _choice(row, key)) is not None
        )
        unread: list[dict[str, Any]] = []
        ratings = tuple(
            rating for index, name in enumerate(names) for rating in self._ratings(row, name, index, unread)
        )
        if not comparisons and not ratings:
            raise RowError("nothing was judged", "no-preference")
        asked = take_text(row, "question")
        return pictured(
            self,
            row,
            where,
            asked,
            responses=responses,
            comparisons=comparisons,
            ratings=ratings,
            provenance={
                **told(
                    row, ("id", "category", "image_severity", *(f"{name}_helpful_rate" for name in names))
                ),
                **({"unread": unread} if unread else {}),
                **others(row, USED),
            },
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if all(row.get(mark) is not None for mark in ("question", "image", *SINGLE, "is_response_safe")):
            return "has question, image, response, is_response_safe"
        return super().recognise(row)

    def _ratings(
        self, row: dict[str, Any], name: str, index: int, unread: list[dict[str, Any]]
    ) -> tuple[Rating, ...]:
        """Of answer `name`, response `index`: whether it is safe, and how harmless, as far as that was judged. A rate
        that is none goes to `unread`.
        """
        safe, rate = _yes(row, f"is_{name}_safe"), row.get(f"{name}_harmless_rate")
        harmless, why = read_rating(rate, LOW, HIGH)
        if rate is not None and harmless is None:
            unread.append({"response": index, "aspect": "harmless_rate", "value": plain(rate), "why": why})
        found: list[Rating] = []
        if safe is not None:
            found.append(Rating("safety", index, safe, 0.0, 1.0, self.judge, "binary"))
        if harmless is not None:
            found.append(Rating("safety", index, harmless, LOW, HIGH, self.judge))
        return tuple(found)


def _choice(row: dict[str, Any], key: str) -> int | None:
    """The index of the answer that was chosen; None where the field is null: not judged."""
    return None if key in row and row[key] is None else take_choice(row, key)


def _yes(row: dict[str, Any], key: str) -> float | None:
    if key not in row:
        raise RowError(f"has no field {key}", "field-missing")
    if row[key] is None:
        return None
    found = ANSWERS.get(str(row[key]).strip().lower()) if isinstance(row[key], str | bool) else None
    if found is None:
        raise RowError(f"{key} is neither yes nor no")
    return found
