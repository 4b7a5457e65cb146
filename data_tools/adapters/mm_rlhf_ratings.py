"""MM-RLHF's main table, `data.jsonl`: several models' answers, people's ratings in three aspects, a final ranking, and
the reasons for both.

The names of the fields are known, the forms of what they hold are not verified. So each is read in the forms that say
something plainly, and what is in another form is left out and named in the record's provenance (`unread`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from data_tools.adapters.base import RowError, take_images, take_text
from data_tools.adapters.pictured import marked_question, refuse_video
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import RatedSource, Sheet, read_rating
from data_tools.schema import PreferenceRecord, Ranking

TEXTS = ("response", "output", "answer", "text", "content")  # where an object may have an answer
MODELS = ("model", "model_name", "name")
ASPECTS = ("faithfulness", "helpfulness", "ethical")
KEPT = ("id", "answer")
RANKING = "final_ranking"
REASONS = "score_reasons"
WHY = "ranking_reason"
_PLACES = re.compile(r"\s*[0-9]+(\s*[>=]\s*[0-9]+)+\s*")


class MmRlhfRatingsConfig(RatedSource):
    """MM-RLHF's main table: ratings in three aspects, rankings and reasons."""

    type: Literal["mm_rlhf_ratings"] = "mm_rlhf_ratings"
    objective: str = Field(default="overall", min_length=1, description="What the final ranking is about.")
    lowest: float = Field(default=1.0, description="The lowest rating of the scale (not verified).")
    highest: float = Field(default=5.0, description="The highest rating of the scale (not verified).")
    ranking: Literal["ranks", "order"] = Field(
        default="ranks",
        description="What a final ranking that is a list holds: the rank of each answer, 1 the best; or the answers' "
        "numbers from 1, the best first (not verified).",
    )

    marks: ClassVar[tuple[str, ...]] = ("question", "models_output", *ASPECTS, RANKING)
    pictures: ClassVar[tuple[str, ...]] = ("image",)
    aspects: ClassVar[dict[str, str]] = {
        "faithfulness": "factuality",
        "helpfulness": "helpfulness",
        "ethical": "safety",
    }

    @model_validator(mode="after")
    def _check_scale(self) -> MmRlhfRatingsConfig:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest is {self.lowest:g}, and must be below highest, {self.highest:g}")
        return self

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        refuse_video(row)
        asked = take_text(row, "question")
        sheet = Sheet(self)
        answers = _answers(row)
        # the response that each answer of the row has become; a blank one is left out, with what was judged about it
        places = {answer["number"]: response for response, answer in sheet.answers(answers)}
        for aspect in ASPECTS:
            for number, value in enumerate(_column(row, aspect, answers, sheet)):
                if number in places:
                    sheet.rate(places[number], aspect, value, self.lowest, self.highest)
        self._rank(row, len(answers), places, sheet)
        self._criticise(row, answers, places, sheet)
        images = take_images(row, "image", self.image_root)
        prompt, marks = marked_question(asked, images)
        used = (*self.marks, *KEPT, REASONS, WHY, "image", "video")
        return sheet.record(where, prompt, {**told(row, KEPT), **marks, **others(row, used)}, images)

    def _rank(self, row: dict[str, Any], count: int, places: dict[int, int], sheet: Sheet) -> None:
        """Adds the final ranking of those answers that are responses."""
        value = row.get(RANKING)
        ranks = _ranks(value, count, self.ranking)
        if ranks is None:
            if value not in (None, "", []):
                why = "neither a rank for each answer nor the answers in order"
                sheet.unread.append({"aspect": RANKING, "value": plain(value), "why": why})
            return
        order = tuple(
            group
            for rank in sorted(set(ranks))
            if (group := tuple(places[n] for n, other in enumerate(ranks) if other == rank and n in places))
        )
        if sum(map(len, order)) > 1:
            sheet.rankings.append(Ranking(self.objective, order, self.judge))

    def _criticise(
        self, row: dict[str, Any], answers: list[dict[str, Any]], places: dict[int, int], sheet: Sheet
    ) -> None:
        """Adds the reasons for the ratings, of one response or of all, and those for the ranking, of all."""
        reasons = row.get(REASONS)
        for number, said in enumerate(
            [] if isinstance(reasons, str) else _column(row, REASONS, answers, sheet)
        ):
            if number not in places:
                continue
            parts = said if isinstance(said, dict) else {"": said}
            for aspect, words in parts.items():
                objective = self.objective_of(aspect) if aspect in ASPECTS else ""
                _add_words(sheet, words, REASONS, places[number], objective)
        if isinstance(reasons, str):
            sheet.criticise(reasons, None)
        given = row.get(WHY)
        for words in given if isinstance(given, list) else [given]:
            _add_words(sheet, words, WHY, None, self.objective)


def _add_words(sheet: Sheet, words: object, field: str, response: int | None, objective: str) -> None:
    if isinstance(words, str):
        sheet.criticise(words, response, objective)
    elif words not in (None, [], {}):
        sheet.unread.append({"aspect": field, "value": plain(words), "why": "not a text"})


def _answers(row: dict[str, Any]) -> list[dict[str, Any]]:
    """`models_output` as `{number, response, model}`: a list of texts, a list of objects, or texts by their models."""
    if "models_output" not in row:
        raise RowError("has no field models_output", "field-missing")
    given = row["models_output"]
    if isinstance(given, dict):
        if not all(isinstance(text, str | None) for text in given.values()):
            raise RowError("models_output is an object, but not of texts by their models")
        given = [{"model": model, "response": text} for model, text in given.items()]
    if not isinstance(given, list):
        raise RowError("models_output is no list")
    return [{"number": number, **_answer(item)} for number, item in enumerate(given)]


def _answer(item: object) -> dict[str, Any]:
    if item is None or isinstance(item, str):
        return {"response": item}
    if isinstance(item, dict):
        text = next((item[key] for key in TEXTS if isinstance(item.get(key), str)), None)
        model = next((item[key] for key in MODELS if isinstance(item.get(key), str)), None)
        if text is not None:
            return {"response": text, "model": model}
    raise RowError(f"an item of models_output is neither a text nor an object with one in {', '.join(TEXTS)}")


def _column(row: dict[str, Any], field: str, answers: list[dict[str, Any]], sheet: Sheet) -> Iterator[Any]:
    """What a field says of each answer, in their order: a list of as many, or an object by their models."""
    value = row.get(field)
    if isinstance(value, dict):
        named = [value.get(answer.get("model")) for answer in answers]
        if any(item is not None for item in named):
            yield from named
            return
    if isinstance(value, list) and len(value) == len(answers):
        yield from value
    elif value not in (None, "", []):
        why = f"not one for each of the {len(answers)} answers"
        sheet.unread.append({"aspect": field, "value": plain(value), "why": why})


def _ranks(value: object, count: int, holds: Literal["ranks", "order"]) -> list[float] | None:
    """Each answer's rank, the lowest the best: from a list, or a text such as "2>1=3" of the answers' numbers from 1;
    None where it is of neither form.
    """
    if isinstance(value, str):
        if not _PLACES.fullmatch(value):
            return None
        groups = [[int(number) for number in group.split("=")] for group in value.split(">")]
        return _by_answer(groups, count)
    if not isinstance(value, list):
        return None
    numbers = [read_rating(item, 0, count)[0] for item in value]
    ranks = [number for number in numbers if number is not None]
    if len(ranks) < len(numbers):
        return None
    if holds == "ranks":
        return ranks if len(ranks) == count else None
    return _by_answer([[number] for number in ranks], count)


def _by_answer(groups: Sequence[Sequence[float]], count: int) -> list[float] | None:
    """The rank of each answer out of groups of answers' numbers, the best group first; None unless each is in one."""
    if sorted(number for group in groups for number in group) != list(range(1, count + 1)):
        return None
    place = {number: rank for rank, group in enumerate(groups, 1) for number in group}
    return [float(place[number]) for number in range(1, count + 1)]
