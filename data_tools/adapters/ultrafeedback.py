"""UltraFeedback: answers of four models, each rated by GPT-4 in four aspects and as a whole, with its reasons."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import take_text
from data_tools.adapters.provenance import others, told
from data_tools.adapters.ratings import RatedSource, Sheet, has_annotations
from data_tools.adapters.structs import take_structs
from data_tools.schema import PreferenceRecord, user

OVERALL = "overall_score"
KEPT = ("source", "models", "correct_answers", "incorrect_answers")


class UltraFeedbackConfig(RatedSource):
    """UltraFeedback: `completions` with `annotations` from 1 to 5 and an `overall_score` from 1 to 10.

    What each model was told to be like (`principle`, `custom_system_prompt`) differs from answer to answer, so it is no
    turn of the prompt that they share; the provenance keeps it.
    """

    type: Literal["ultrafeedback"] = "ultrafeedback"
    judge: str = Field(default="gpt-4", min_length=1, description="Who rated.")

    marks: ClassVar[tuple[str, ...]] = ("instruction", "completions")
    aspects: ClassVar[dict[str, str]] = {
        "instruction_following": "instruction_following",
        "honesty": "honesty",
        "truthfulness": "factuality",
        "helpfulness": "helpfulness",
        OVERALL: OVERALL,
    }

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        instruction = take_text(row, "instruction")
        annotated = [aspect for aspect in self.aspects if aspect != OVERALL]
        sheet, systems = Sheet(self), []
        for response, completion in sheet.answers(take_structs(row, "completions"), row.get("models")):
            sheet.annotate(response, completion.get("annotations"), annotated, 1, 5)
            sheet.rate(response, OVERALL, completion.get(OVERALL), 1, 10)
            sheet.criticise(completion.get("critique"), response)
            # the fine-grained score is the mean of the four aspects, which are kept themselves
            systems.append(told(completion, ("principle", "custom_system_prompt", "fine-grained_score")))
        provenance = {**told(row, KEPT), **others(row, (*self.marks, *KEPT))}
        if any(systems):
            provenance["completions"] = systems
        return sheet.record(where, (user(instruction),), provenance)

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # without them the completions may be anybody's
        return super().recognise(row) if has_annotations(row.get("completions")) else None
