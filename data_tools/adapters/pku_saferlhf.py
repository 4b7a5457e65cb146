"""PKU-SafeRLHF: two answers; which is more helpful and which safer was asked apart, and the two may disagree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, model_name, take_choice, take_text
from data_tools.adapters.provenance import others, plain, told
from data_tools.schema import Comparison, PreferenceRecord, Rating, Response, user

BETTER, SAFER = "better_response_id", "safer_response_id"
SIDES = (0, 1)
SAFE = tuple(f"is_response_{side}_safe" for side in SIDES)
USED = (
    "prompt",
    "prompt_source",
    BETTER,
    SAFER,
    *(
        f"response_{side}{part}"
        for side in SIDES
        for part in ("", "_sha256", "_source", "_harm_category", "_severity_level")
    ),
    *SAFE,
)
OVERALL = "overall"
JOINT = "human-and-model"  # who said whether an answer is safe, by the data set's paper


class PkuSafeRlhfConfig(FileSource):
    """PKU-SafeRLHF: `better_response_id` and `safer_response_id` (0 or 1), and whether each answer is safe.

    In the set of one dimension `better_response_id` is a choice that weighs both; a row without the other question is
    of that set.
    """

    type: Literal["pku_saferlhf"] = "pku_saferlhf"
    objective: str | None = Field(
        default=None,
        min_length=1,
        description="What better_response_id is about; null is helpfulness where the row says which is safer too, else "
        f"{OVERALL}: one choice that weighs both, as in PKU-SafeRLHF-single-dimension.",
    )
    judge: str = Field(
        default="human",
        min_length=1,
        description=f"Who chose. Whether an answer is safe was said by people and a model together: {JOINT}.",
    )

    marks: ClassVar[tuple[str, ...]] = ("prompt", "response_0", "response_1")

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # any two answers may be called so; these say what was judged
        judged = [key for key in (BETTER, SAFER, *SAFE) if row.get(key) is not None]
        return f"{super().recognise(row)}, {', '.join(judged)}" if judged and super().recognise(row) else None

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt = take_text(row, "prompt")
        answers = [take_text(row, f"response_{side}") for side in SIDES]
        if answers[0] == answers[1]:
            raise RowError("response_0 and response_1 are the same answer", "same-answers")
        models = [row.get(f"response_{side}_source") for side in SIDES]
        comparisons, ratings = tuple(self._comparisons(row)), tuple(_ratings(row))
        if not comparisons and not ratings:
            raise RowError(
                f"has none of {BETTER}, {SAFER}, is_response_0_safe, is_response_1_safe", "no-preference"
            )
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=(user(prompt),),
            responses=tuple(
                Response(text, model_name(model)) for text, model in zip(answers, models, strict=True)
            ),
            comparisons=comparisons,
            ratings=ratings,
            provenance={**told(row, ("prompt_source",)), **_harm(row), **others(row, USED)},
        )

    def _comparisons(self, row: dict[str, Any]) -> Iterator[Comparison]:
        asked = {
            BETTER: self.objective or (OVERALL if row.get(SAFER) is None else "helpfulness"),
            SAFER: "safety",
        }
        for key, objective in asked.items():
            if row.get(key) is not None:
                better = take_choice(row, key, first=0)
                yield Comparison(objective, better=better, worse=1 - better, judge=self.judge)


def _ratings(row: dict[str, Any]) -> Iterator[Rating]:
    for side, key in enumerate(SAFE):
        if row.get(key) is None:
            continue
        if not isinstance(row[key], bool):
            raise RowError(f"{key} is neither true nor false")
        yield Rating("safety", side, float(row[key]), 0.0, 1.0, JOINT, "binary")


def _harm(row: dict[str, Any]) -> dict[str, Any]:
    """What harm each answer does, by the names of the categories, and how severe it is."""
    found = {}
    categories = [row.get(f"response_{side}_harm_category") for side in SIDES]
    if any(categories):
        found["harm_categories"] = [
            plain([name for name, held in given.items() if held] if isinstance(given, dict) else given)
            for given in categories
        ]
    severities = [row.get(f"response_{side}_severity_level") for side in SIDES]
    if any(level is not None for level in severities):
        found["severity_levels"] = [plain(level) for level in severities]
    return found
