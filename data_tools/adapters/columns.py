"""Rows of any fields; the settings say what is in which: `{type: columns, prompt: question, image: img, ...}`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from data_tools.adapters.chat import answer_text, read_turns, with_system
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.own_rows import JudgedRows, demonstrated_text, reference_value
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord, Response


class ColumnsConfig(JudgedRows):
    """Rows whose fields are named in the settings; a field in an object is named as `outer.inner`."""

    type: Literal["columns"] = "columns"
    prompt: str = Field(min_length=1, description="The field of the prompt: a text, or a list of messages.")
    system: str | None = Field(
        default=None, description="The field of what the system says before the prompt."
    )
    image: str | list[str] = Field(
        default=[],
        description="The field of the image or the list of images; or several fields, in their order.",
    )
    chosen: str | None = Field(default=None, description="The field of the better answer.")
    rejected: str | None = Field(
        default=None, description="The field of the worse answer, or of a list of them."
    )
    response: str | None = Field(
        default=None,
        description="The field of an answer by itself: a demonstration, or with `label` a rating.",
    )
    label: str | None = Field(
        default=None, description="The field that says whether `response` is good: true, false, 1 or 0."
    )
    reference: str | None = Field(
        default=None, description="The field of the right answer, or of a list of them."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("chosen and rejected go together: name both fields")
        if self.chosen is not None and self.response is not None:
            raise ValueError(
                "chosen and rejected make pairs, response makes single answers: name one or the other"
            )
        if self.label is not None and self.response is None:
            raise ValueError("label says whether a response is good: name the field of the response, too")
        if (
            self.chosen is None
            and self.label is None
            and (said := self.model_fields_set & {"objective", "judge", "unjudged"})
        ):
            raise ValueError(
                f"{' and '.join(sorted(said))} does nothing, since nothing is judged: name chosen and "
                "rejected, or label"
            )
        named = self._named()
        for name in named:
            if named.count(name) > 1:
                raise ValueError(f"the field {name!r} is named twice")
        return self

    @property
    def picture_fields(self) -> list[str]:
        return [self.image] if isinstance(self.image, str) else self.image

    def _named(self) -> list[str]:
        single = (
            self.prompt,
            self.system,
            self.chosen,
            self.rejected,
            self.response,
            self.label,
            self.reference,
        )
        return [name for name in (*single, *self.picture_fields) if name is not None]

    def shown_fields(self, row: dict[str, Any]) -> list[str]:
        return self.picture_fields

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        for name in self._named():
            _lift(row, name)
            if name not in row:
                raise RowError(f"has no field {name}", "field-missing")
        turns = read_turns(row[self.prompt], self.prompt)
        if self.system is not None:
            turns = with_system(turns, row[self.system])
        rest: dict[str, Any] = {}
        if self.chosen is not None and self.rejected is not None:
            value = row[self.rejected]
            several = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
            rejected = [_answer(item, self.rejected) for item in (value if several else [value])]
            rest = self.compared(_answer(row[self.chosen], self.chosen), rejected)
        elif self.response is not None:
            answer = read_turns(row[self.response], self.response, "assistant")
            label = None if self.label is None else self.judging(row, (self.label,))
            read = demonstrated_text if label is None else answer_text
            rest["responses"] = (Response(read(answer, self.response)),)
            if label is not None:
                rest["ratings"] = (self.rating(row[label], label),)
        if self.reference is not None and not is_blank(row[self.reference]):
            rest["reference"] = {"answer": reference_value(row[self.reference], self.reference)}
        return self.record(row, where, turns, self._named(), **rest)

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        return None


def _answer(value: object, what: str) -> str:
    return answer_text(read_turns(value, what, "assistant"), what)


def _lift(row: dict[str, Any], name: str) -> None:
    """Puts what is in the objects that a name such as `outer.inner` leads through into the row itself, so that each of
    their fields is one that was asked for or not.
    """
    outer, dot, _ = name.partition(".")
    while dot and name not in row:
        inner = dict.get(row, outer)
        if isinstance(inner, dict):
            dict.pop(row, outer)
            for key, value in inner.items():
                dict.__setitem__(row, f"{outer}.{key}", value)
        more, dot, _ = name[len(outer) + 1 :].partition(".")
        outer = f"{outer}.{more}"
