"""MultiPref: what four people said of two answers, in three aspects and as a whole.

Each person's choice is a vote. The comparison on an objective is what more of them chose; as many for each answer, or
none for any, is a tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import RowError, model_name, take_text
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import RatedSource, signed_comparison, sum_votes
from data_tools.adapters.structs import structs
from data_tools.schema import Comparison, PreferenceRecord, Response, user

ANSWERS = ("completion_a", "completion_b")
MODELS = ("model_a", "model_b")
GROUPS = ("normal_worker_annotations", "expert_worker_annotations")
KEPT = ("comparison_id", "prompt_id", "source", "category", "subject_study", "highest_level_degree")
STRENGTHS = {
    "a-is-clearly-better": -2,
    "a-is-slightly-better": -1,
    "tie": 0,
    "b-is-slightly-better": 1,
    "b-is-clearly-better": 2,
}


class MultiPrefConfig(RatedSource):
    """MultiPref: the votes of normal and of expert workers."""

    type: Literal["multipref"] = "multipref"

    marks: ClassVar[tuple[str, ...]] = ("text", *ANSWERS, *GROUPS)
    aspects: ClassVar[dict[str, str]] = {
        "overall_pref": "overall",
        "helpful_pref": "helpfulness",
        "truthful_pref": "factuality",
        "harmless_pref": "safety",
    }

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        asked, answers = take_text(row, "text"), [take_text(row, key) for key in ANSWERS]
        if answers[0] == answers[1]:
            raise RowError(f"{' and '.join(ANSWERS)} are the same answer", "same-answers")
        unread: list[dict[str, Any]] = []
        said = list(_annotations(row))
        votes = tuple(vote for name, annotation in said for vote in self._votes(name, annotation, unread))
        if not votes:
            raise RowError("no annotation has a choice that can be read", "no-preference")
        more = [
            {"judge": name, **rest}
            for name, annotation in said
            if (
                rest := told(
                    annotation, [key for key in annotation if key not in (*self.aspects, "evaluator")]
                )
            )
        ]
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=(user(asked),),
            responses=tuple(
                Response(text, model_name(row.get(model)))
                for text, model in zip(answers, MODELS, strict=True)
            ),
            comparisons=tuple(sum_votes(votes, self.judge)),
            votes=votes,
            provenance={
                **told(row, KEPT),
                **({"annotations": more} if more else {}),
                **({"unread": unread} if unread else {}),
                **others(row, (*self.marks, *MODELS, *KEPT)),
            },
        )

    def _votes(
        self, name: str, annotation: dict[str, Any], unread: list[dict[str, Any]]
    ) -> Iterator[Comparison]:
        """One person's choices; those that can't be read go to `unread`."""
        for aspect in self.aspects:
            value = annotation.get(aspect)
            if value is None:
                continue
            strength = STRENGTHS.get(value.strip().lower()) if isinstance(value, str) else None
            if strength is None:
                unread.append(
                    {"judge": name, "aspect": aspect, "value": plain(value), "why": "no known choice"}
                )
            else:
                yield signed_comparison(strength, self.objective_of(aspect), name)


def _annotations(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each annotation with its evaluator's name; one without a name gets its group's and its number."""
    if not any(group in row for group in GROUPS):
        raise RowError(f"has no field {' nor '.join(GROUPS)}", "field-missing")
    for group in GROUPS:
        given = row.get(group)
        for number, annotation in enumerate([] if given is None else structs(given, group), 1):
            evaluator = annotation.get("evaluator")
            kind = group.partition("_")[0]
            yield model_name(evaluator) or f"{kind}-{number}", annotation
