"""A Python function of the user as an objective: `type: my_module:fn`.

    def fn(prompts, responses, images):
        return [...]

It is called with lists of the same length: the prompts in words, the answers, and the images of each prompt (a list of
RGB pictures of Pillow, empty for text). One call has at most `batch_size` prompts, each with all of its answers, so
that the pictures of no more are in memory. A function that has an argument `records` is given the records too. It
returns a number an answer, None where it doesn't apply; or a dict of such lists, for the objectives that `judges`
names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from data_tools.config import import_object
from data_tools.errors import RunError
from data_tools.images import read_image
from data_tools.schema import PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, prompt_text, raised, source_hash

if TYPE_CHECKING:
    from mmrlhf.types import Rewards


class Function(ObjectiveBase):
    """A Python function of yours, called with prompts, responses and images."""

    idle: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    type: Literal["function"] = "function"
    function: str = Field(description="my_module:fn; `type: my_module:fn` says the same")
    judges: list[str] = Field(
        [],
        description="the objectives, where it returns a dict with a list for each; nothing: one, called `name`",
    )
    arguments: dict[str, Any] = Field({}, description="more arguments of the function, by name")
    batch_size: int = Field(
        16,
        ge=1,
        description="prompts of one call, each with all of its answers; their pictures are in memory at a time",
    )

    @field_validator("function")
    @classmethod
    def _is_function(cls, value: str) -> str:
        if not callable(import_object(value)):
            raise ValueError(f"{value} is no function")
        return value

    @model_validator(mode="after")
    def _can_be_called(self) -> Function:
        found = inspect.signature(import_object(self.function))
        try:
            found.bind([], [], [], **self._more(()))
        except TypeError as error:
            raise ValueError(
                f"{self.function}{found} can't be called with (prompts, responses, images) and arguments: {error}"
            ) from None
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.judges) or (self.name,)

    def score(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Rewards:
        columns: list[list[float | None]] = [[None] * len(records) for _ in self.names]
        for part in self._parts(records):
            told = self._ask([records[i] for i in part], [texts[i] for i in part])
            for column, values in zip(columns, told, strict=True):
                for i, value in zip(part, values, strict=True):
                    column[i] = value
        return self.joined(columns, records)

    def _parts(self, records: Sequence[PreferenceRecord]) -> Iterator[list[int]]:
        """Which records go into each call, by their index; those of one prompt into the same."""
        same: dict[int, list[int]] = {}
        for i, record in enumerate(records):
            same.setdefault(id(record), []).append(i)
        prompts = list(same.values())
        for start in range(0, len(prompts), self.batch_size):
            yield [i for indices in prompts[start : start + self.batch_size] for i in indices]

    def _ask(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> list[list[float | None]]:
        """One call's rewards, an objective each."""
        given = self._call(records, texts)
        if not self.judges:
            return [self._checked(self.name, given, records)]
        if not isinstance(given, dict) or given.keys() != set(self.judges):
            gave = (
                f"a dict with {', '.join(map(str, given))}" if isinstance(given, dict) else f"{given!r:.80}"
            )
            raise RunError(
                f"objective {self.name}: {self.function} gave {gave}, not a dict with {', '.join(self.judges)}"
            )
        return [self._checked(name, given[name], records) for name in self.judges]

    def made_of(self, settings: dict[str, Any]) -> dict[str, Any]:
        return super().made_of(settings) | {"code": source_hash(import_object(self.function))}

    def _more(self, records: Sequence[PreferenceRecord]) -> dict[str, Any]:
        wanted = inspect.signature(import_object(self.function)).parameters
        return self.arguments | ({"records": list(records)} if "records" in wanted else {})

    def _call(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Any:
        once = {id(record): record for record in records}  # answers to one prompt share its images
        images = {key: [read_image(ref) for ref in record.images] for key, record in once.items()}
        prompts = [prompt_text(record) for record in records]
        shown = [list(images[id(record)]) for record in records]
        try:
            return import_object(self.function)(prompts, list(texts), shown, **self._more(records))
        except Exception as error:
            raise raised(f"objective {self.name}", self.function, error) from error
