"""Label Studio's JSON export: a task's `data`, and its `annotations` with the `result` of each control.

The form is known from memory only, so each part is checked. Pairwise, choices, rating and text controls are read; what
another one holds, and models' `predictions`, stay in the provenance. The small export (JSON-MIN) isn't read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.annotated import AnnotatedSource, AnswerSheet
from data_tools.adapters.base import RowError
from data_tools.adapters.provenance import others, told
from data_tools.adapters.structs import take_structs
from data_tools.schema import PreferenceRecord

SIDES = ("left", "right")
KEPT = ("id", "predictions", "file_upload")  # the last is a name of what a field in data refers to


class LabelStudioConfig(AnnotatedSource):
    """Label Studio: what annotators said of a task's answers."""

    type: Literal["label_studio"] = "label_studio"
    answers: list[str] = Field(
        default=["answer1", "answer2"],
        min_length=1,
        description="The fields of the answers in a task's data, in their order; the first is the left one.",
    )
    objectives: dict[str, str] = Field(
        default={},
        description="What each control asked: {from_name: objective}; the others are about objective.",
    )

    marks: ClassVar[tuple[str, ...]] = ("data", "annotations")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        fields = row.get("data")
        if not isinstance(fields, dict):
            raise RowError("has no object data", "field-missing")
        sheet = AnswerSheet(self)
        listed = row.get("annotations", ())
        for annotation in [] if listed is None else take_structs(row, "annotations"):
            name = self.name_of(_user(annotation.get("completed_by")))
            if annotation.get("was_cancelled"):
                sheet.put_off(None, name, "skipped by the annotator")
                continue
            for result in take_structs(annotation, "result"):
                self._judge(result, name, sheet)
        kept = {**told(row, KEPT), **others(row, (*self.marks, *KEPT))}
        rest = others(fields, (self.prompt, *self.answers, self.image))
        return self.record(where, fields, sheet, {**kept, **({"data": rest["fields"]} if rest else {})})

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        listed = row.get("annotations")
        annotated = isinstance(listed, list) and all(
            isinstance(item, dict) and "result" in item for item in listed
        )
        return super().recognise(row) if annotated and isinstance(row.get("data"), dict) else None

    def _judge(self, result: dict[str, Any], name: str, sheet: AnswerSheet) -> None:
        """Puts what one control says onto the sheet."""
        value, control = result.get("value"), result.get("from_name")
        value = value if isinstance(value, dict) else {}
        objective = (
            self.objectives.get(control, self.objective) if isinstance(control, str) else self.objective
        )
        about = result.get("to_name")
        if result.get("type") == "pairwise" and value.get("selected") in SIDES:
            shown = _names(about) or self.answers
            side = SIDES.index(value["selected"])
            sheet.choose(shown[side] if len(shown) == len(SIDES) else None, objective, name)
        elif result.get("type") == "choices" and isinstance(value.get("choices"), list):
            for label in value["choices"]:
                sheet.choose(label, objective, name)
        elif result.get("type") == "rating" and "rating" in value:
            answer = about if about in self.answers or len(self.answers) > 1 else self.answers[0]
            sheet.rate(str(answer), value["rating"], objective, name)
        elif result.get("type") == "textarea" and isinstance(value.get("text"), list | str):
            words = [value["text"]] if isinstance(value["text"], str) else value["text"]
            for text in words:
                sheet.criticise(text, about, objective, name)
        else:
            sheet.refuse({"from_name": control, "value": value}, name, "of a control that isn't read")


def _user(value: object) -> object:
    """A user's id, also out of an object about them."""
    return value.get("id") if isinstance(value, dict) else value


def _names(about: object) -> Sequence[str]:
    """The fields that a pairwise control is about."""
    names = about.split(",") if isinstance(about, str) else about if isinstance(about, list) else []
    return [name.strip() for name in names if isinstance(name, str)]
