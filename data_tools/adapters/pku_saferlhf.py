"""PKU-SafeRLHF: two answers; which is more helpful and which safer was asked apart, and the two may disagree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import FileSource, RowError, model_name, take_choice, take_text
from data_tools.adapters.provenance import plain, told
from data_tools.schema import Comparison, PreferenceRecord, Rating, Response, user

ASKED = {"better_response_id": "helpfulness", "safer_response_id": "safety"}
SIDES = (0, 1)


class PkuSafeRlhfConfig(FileSource):
    """PKU-SafeRLHF: `better_response_id` and `safer_response_id` (0 or 1), and whether each answer is safe.

    A question that a row doesn't answer (as in the sets of one dimension) is left out.
    """

    type: Literal["pku_saferlhf"] = "pku_saferlhf"

    marks: ClassVar[tuple[str, ...]] = ("prompt", "response_0", "response_1")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt = take_text(row, "prompt")
        answers = [take_text(row, f"response_{side}") for side in SIDES]
        if answers[0] == answers[1]:
            raise RowError("response_0 and response_1 are the same answer", "same-answers")
        models = [row.get(f"response_{side}_source") for side in SIDES]
        comparisons, ratings = tuple(_comparisons(row)), tuple(_ratings(row))
        if not comparisons and not ratings:
            raise RowError(
                f"has none of {', '.join(ASKED)}, is_response_0_safe, is_response_1_safe", "no-preference"
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
            provenance={**told(row, ("prompt_source",)), **_harm(row)},
        )


def _comparisons(row: dict[str, Any]) -> Iterator[Comparison]:
    for key, objective in ASKED.items():
        if row.get(key) is not None:
            better = take_choice(row, key, first=0)
            yield Comparison(objective, better=better, worse=1 - better)


def _ratings(row: dict[str, Any]) -> Iterator[Rating]:
    for side in SIDES:
        key = f"is_response_{side}_safe"
        if row.get(key) is None:
            continue
        if not isinstance(row[key], bool):
            raise RowError(f"{key} is neither true nor false")
        yield Rating("safety", side, float(row[key]), low=0.0, high=1.0, kind="binary")


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
