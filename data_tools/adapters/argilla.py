"""Argilla's exports: records as a list or as JSON (`fields`, `responses`), as a flat table (`QUESTION.responses`), and
the older one (`QUESTION` with a list of `{user_id, value, status}`).

The forms are known from memory only, so each part is checked. One question of the project is read; those that aren't,
and what models suggested, stay in the provenance.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.annotated import AnnotatedSource, AnswerSheet
from data_tools.adapters.base import RowError
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.structs import structs
from data_tools.schema import PreferenceRecord

SUBMITTED = (None, "submitted")  # of a response's status; drafts and discarded ones aren't judgements


class ArgillaConfig(AnnotatedSource):
    """Argilla: what annotators answered to one question about two answers or more."""

    type: Literal["argilla"] = "argilla"
    question: str = Field(
        default="preference", min_length=1, description="The name of the question that is read."
    )

    marks: ClassVar[tuple[str, ...]] = ("fields", "responses", "suggestions")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        nested = isinstance(row.get("fields"), dict)
        fields = row["fields"] if nested else row
        sheet = AnswerSheet(self)
        for user, status, value in _responses(row, self.question):
            name = self.name_of(user)
            if status not in SUBMITTED:
                sheet.put_off(value, name, f"its status is {plain(status)}")
            elif not is_blank(value):
                self._judge(value, name, sheet)
        return self.record(where, fields, sheet, self._rest(row))

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        if all(isinstance(row.get(mark), dict) for mark in cls.marks):
            return super().recognise(row)
        flat = [
            key
            for key in row
            if isinstance(key, str) and key.endswith(".responses") and row.get(f"{key}.users") is not None
        ]
        if flat:
            return f"has {flat[0]} and {flat[0]}.users"
        older = [key for key, value in row.items() if _is_older(value)]
        return f"has answers with user_id and value in {older[0]}" if older else None

    def _rest(self, row: dict[str, Any]) -> dict[str, Any]:
        """What else the row holds: other questions, other fields, suggestions, metadata."""
        shown = (self.prompt, *self.answers, self.image)
        if not isinstance(row.get("fields"), dict):
            kept = [key for key in row if self._is_about(key)]
            about = told(row, kept)
            return {**({"about": about} if about else {}), **others(row, (*shown, *kept))}
        about = told(row, ("id", "status", "metadata", "suggestions"))
        answered = row.get("responses")
        if isinstance(answered, dict):
            about |= told(
                {"responses": {key: answered[key] for key in answered if key != self.question}},
                ("responses",),
            )
        about |= others(row, ("id", "status"))
        return {**({"about": about} if about else {}), **others(row["fields"], shown)}

    def _is_about(self, key: object) -> bool:
        """Whether a column of a flat table says more of a question than who answered what."""
        read = {
            f"{self.question}{end}" for end in ("", ".responses", ".responses.users", ".responses.status")
        }
        return isinstance(key, str) and key not in read and (".responses" in key or "suggestion" in key)

    def _judge(self, value: object, name: str, sheet: AnswerSheet) -> None:
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            sheet.rank([(item.get("value"), item.get("rank")) for item in value], self.objective, name)
        elif isinstance(value, int | float) and not isinstance(value, bool) and len(self.answers) == 1:
            sheet.rate(self.answers[0], value, self.objective, name)
        else:
            sheet.choose(value, self.objective, name)


def _responses(row: dict[str, Any], question: str) -> Iterator[tuple[object, object, object]]:
    """The responses to the question: who gave each, its status, and its value."""
    flat = f"{question}.responses"
    if flat in row:
        values, users, statuses = (row.get(f"{flat}{end}") for end in ("", ".users", ".status"))
        for number, value in enumerate(values if isinstance(values, list) else []):
            yield _item(users, number), _item(statuses, number), value
        return
    nested = row.get("responses")
    held = nested if isinstance(nested, dict) else row
    if question not in held and not (isinstance(nested, dict) and is_blank(nested)):
        raise RowError("has no responses to the question; name it with question", "field-missing")
    given = held.get(question)
    for response in structs([] if is_blank(given) else given, "the responses"):
        yield response.get("user_id"), response.get("status"), response.get("value")


def _is_older(value: object) -> bool:
    """Whether a column holds responses as the older export has them."""
    items = value if isinstance(value, list) else []
    return bool(items) and all(
        isinstance(item, dict) and {"user_id", "value"} <= item.keys() for item in items
    )


def _item(values: object, number: int) -> object:
    return values[number] if isinstance(values, list) and number < len(values) else None
