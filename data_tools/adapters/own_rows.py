"""What the formats of people's own rows share: where their pictures are, who judged what, and what becomes of them.

An answer that was judged beside another is a comparison, one by itself a yes-or-no rating; an answer that nobody judged
is a demonstration, to be imitated; a prompt without an answer is one to be answered, with its reference where the row
has one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, check_roles, check_text, list_images, take_image
from data_tools.adapters.chat import Turn, answer_text
from data_tools.adapters.layout import lay_out
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.provenance import others
from data_tools.adapters.row_error import RowError
from data_tools.schema import Comparison, PreferenceRecord, Rating, Response

EVERY: Any = Field(
    default="every",
    description="Which answers of a conversation are demonstrations: every one, each a record, or the last.",
)
IMAGES = ("images", "image", "image_paths", "image_path")
REFERENCES = ("answer", "solution", "ground_truth")
_TOOLS = ("tools", "functions", "objects", "tool_calls", "function_call")
_YES_NO = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


class OwnRows(FileSource):
    """Base of the formats that people's own rows have."""

    pictures: ClassVar[tuple[str, ...]] = IMAGES
    judged: ClassVar[bool] = False
    marked: ClassVar[bool] = True  # an <image> in a text is always the place of an image

    def given_images(self, row: dict[str, Any]) -> list[Any]:
        """The pictures beside the conversation, as the row gives them."""
        return [image for key in self.shown_fields(row) for image in list_images(row[key])]

    def shown_fields(self, row: dict[str, Any]) -> list[str]:
        """The fields of these pictures: of `pictures` the first that has any. A second one isn't asked for, so that the
        row is refused unless it only names the same ones (see `data_tools.adapters.media`).
        """
        return [key for key in self.pictures if not is_blank(dict.get(row, key))][:1]

    def record(
        self,
        row: dict[str, Any],
        where: str,
        turns: Sequence[Turn],
        used: Collection[str],
        **rest: Any,
    ) -> PreferenceRecord:
        """The record of a row with this prompt; `used` are the row's fields that are in it, `rest` the record's own."""
        tools = _refuse_tools(row, {*used, *self.ignore_fields})
        _check_prompt(turns)
        messages, shown = lay_out(turns, self.given_images(row), self.marked)
        read = {*used, *tools}.difference(self.pictures).union(self.shown_fields(row))
        provenance = others(row, read)
        return PreferenceRecord(
            **{
                "id": f"{self.name}-{where}",
                "source": self.name,
                "prompt": messages,
                "images": tuple(take_image(value, self.image_root) for value in shown),
                "provenance": provenance,
                **rest,
            }
        )


class JudgedRows(OwnRows):
    """Base of those that may have answers that were judged."""

    objective: str = Field(default="helpfulness", min_length=1, description="What was judged.")

    unjudged: Literal["refuse", "demonstration"] = Field(
        default="refuse",
        description="What becomes of an answer whose label or rejected answer is blank (null, empty): refuse the row, "
        "or take the answer as a demonstration. A row that lacks the field is a demonstration anyhow.",
    )

    judged: ClassVar[bool] = True

    def judging(self, row: dict[str, Any], keys: Sequence[str]) -> str | None:
        """The one of the fields `keys` by which the row's answer was judged; None where it wasn't judged.

        Raises:
            RowError: several of them hold something, or the row has them and they are blank (see `unjudged`).
        """
        held = [key for key in keys if not is_blank(row.get(key))]
        if len(held) > 1:
            raise RowError(
                f"has both {' and '.join(held)}: an answer is judged in one way, leave the other empty"
            )
        blank = [key for key in keys if key in row]
        if not held and blank and self.unjudged == "refuse":
            raise RowError(
                f"{blank[0]} is blank, so its answer wasn't judged: leave such rows out, or set unjudged to "
                "demonstration to imitate their answers",
                "no-preference",
            )
        return held[0] if held else None

    def rating(self, value: object, what: str) -> Rating:
        """A yes or no about response 0: true and false, 0 and 1, or a text of these."""
        held = value.strip().lower() if isinstance(value, str) else value
        said = _YES_NO.get(held) if isinstance(held, str) else held
        if not isinstance(said, bool | int | float) or said not in (0, 1):
            raise RowError(f"{what} is neither true nor false (nor 1 or 0)", "no-preference")
        return Rating(self.objective, 0, float(said), low=0.0, high=1.0, judge=self.judge, kind="binary")

    def compared(self, chosen: str, rejected: Sequence[str], margin: float | None = None) -> dict[str, Any]:
        """The responses, of which the first was preferred to each of the others, and the comparisons."""
        if chosen in rejected:
            raise RowError("chosen and rejected are the same answer", "same-answers")
        if len(set(rejected)) < len(rejected):
            raise RowError("two rejected answers are the same", "same-answers")
        return {
            "responses": tuple(map(Response, (chosen, *rejected))),
            "comparisons": tuple(
                Comparison(self.objective, better=0, worse=place, margin=margin, judge=self.judge)
                for place in range(1, len(rejected) + 1)
            ),
        }


def demonstrations(
    source: OwnRows,
    row: dict[str, Any],
    where: str,
    turns: Sequence[Turn],
    used: Collection[str],
    every: bool,
    **rest: Any,
) -> tuple[PreferenceRecord, ...]:
    """A record for `every` answer of a conversation, or for its last one, each with the turns before it as its prompt.

    Raises:
        RowError: there is no answer to learn from, or it holds an image.
    """
    ends = [place for place, turn in enumerate(turns) if turn.role == "assistant" and turn.learnt]
    ends = ends if every else ends[-1:]
    if not ends:
        raise RowError("has no answer to learn from: no assistant's turn", "field-missing")
    for place, turn in enumerate(turns):
        if turn.role == "assistant":
            answer_text(turns[place : place + 1], "an answer", source.marked)
    whole = source.record(
        row, where, turns[: ends[-1]], used, responses=(Response(turns[ends[-1]].text),), **rest
    )
    records = []
    for end in ends[:-1]:
        _check_prompt(turns[:end])
        prompt = whole.prompt[:end]
        shown = sum(part.image is not None for message in prompt for part in message.parts)
        records.append(
            PreferenceRecord(
                id=f"{whole.id}#{sum(turn.role == 'assistant' for turn in turns[: end + 1])}",
                source=whole.source,
                prompt=prompt,
                images=whole.images[:shown],
                responses=(Response(turns[end].text),),
                provenance=whole.provenance,
            )
        )
    return (*records, whole)


def take_reference(row: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The right answer of a row, as a record's `reference`, and the field that it is in; empty where there is none.

    Raises:
        RowError: it is neither a text, a number, true, false, nor a list of these.
    """
    for key in REFERENCES:
        if not is_blank(row.get(key)):
            return {"answer": reference_value(row[key], key)}, key
    told = row.get("reward_model")
    if isinstance(told, dict) and not is_blank(told.get("ground_truth")):
        what = "reward_model.ground_truth"
        return {"answer": reference_value(told["ground_truth"], what)}, "reward_model"
    return {}, ""


def reference_value(value: object, what: str) -> Any:
    """A right answer, or a list of them, any of which is right; `what` names it. What stands between `<answer>` tags is
    meant without them.
    """
    if isinstance(value, list) and value:
        return [reference_value(item, what) for item in value]
    if isinstance(value, str):
        text = check_text(value, what)
        inner = text.removeprefix("<answer>").removesuffix("</answer>").strip()
        return inner if text.startswith("<answer>") and text.endswith("</answer>") and inner else text
    if isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    raise RowError(f"{what} is neither a text, a number, true, false, nor a list of these")


def demonstrated_text(turns: Sequence[Turn], what: str, marked: bool = True) -> str:
    """The text of an answer that nobody judged and that is to be imitated (see `chat.answer_text`)."""
    text = answer_text(turns, what, marked)
    if not turns[0].learnt:
        raise RowError(
            f"has no answer to learn from: {what} says so by its weight, loss or train", "field-missing"
        )
    return text


def _refuse_tools(row: dict[str, Any], used: Collection[str]) -> list[str]:
    """The row's fields for tools to call, or boxes that its texts speak of; RowError where one holds any and isn't
    `used`. A text of words about tools is no such field.
    """
    fields = []
    for key, value in dict.items(row):  # a look doesn't read the field
        if not isinstance(key, str) or key.rpartition(".")[2] not in _TOOLS:
            continue
        text = value.strip() if isinstance(value, str) else None
        if text is not None and not text.startswith(("[", "{")):
            continue
        fields.append(key)
        held = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        # an object of nulls is what other rows of a table have there
        if key not in used and (not all(map(is_blank, held)) or text not in (None, "[]", "{}")):
            raise RowError(
                f"has {key}, which are not supported; name it in ignore_fields to leave it out",
                "not-supported",
            )
    return fields


def _check_prompt(turns: Sequence[Turn]) -> None:
    if not turns or turns[-1].role != "user":
        raise RowError("there is no prompt that ends with a user's turn")
    check_roles([turn.role for turn in turns])
