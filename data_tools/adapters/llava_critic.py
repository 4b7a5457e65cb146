"""LLaVA-Critic-113k: GPT-4o's verdicts on one answer, or on two, about an image.

Both the answers and the verdict stand in a conversation in words, in several styles, of which not all are known. So
only what is plain is read: sections that are each named once, and a verdict that says one thing wherever it says any.
Every other row is refused with its reason.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, check_text, take_images
from data_tools.adapters.dialogues import take_dialogue
from data_tools.adapters.pictured import marked_question
from data_tools.adapters.provenance import others, told
from data_tools.adapters.verdicts import read_verdict
from data_tools.schema import Comparison, Critique, PreferenceRecord, Rating, Response

FIELDS = ("id", "source", "conversations", "image")
QUESTION, ONLY, FIRST, SECOND = "question", "response", "first", "second"
_LABEL = re.compile(
    r"^[ \t]*(?:(?P<question>Question)|(?:The )?(?P<order>first|second) (?:response|answer)"
    r"|(?:Response|Answer) (?P<number>[12])|(?P<only>(?:The )?LMM response|Response))[ \t]*:[ \t]*",
    re.MULTILINE | re.IGNORECASE,
)
_END = re.compile(r"\s*ASSISTANT:\s*\Z")
_SCALE = re.compile(r"\bout of (?P<scale>[0-9]{1,3})\b", re.IGNORECASE)
_SCORE = re.compile(
    r"\b(?:score|rating)(?: is| of)?[ \t]*[:=]?[ \t]*\**(?P<score>[0-9]{1,3}(?:\.[0-9]+)?)\b"
    r"(?!\.?[0-9])(?:[ \t]*(?:/|out of)[ \t]*(?P<scale>[0-9]{1,3}))?",
    re.IGNORECASE,
)


class LlavaCriticConfig(FileSource):
    """LLaVA-Critic: verdicts in words, on a pair of answers or on a single one."""

    type: Literal["llava_critic"] = "llava_critic"
    objective: str = Field(
        default="helpfulness", min_length=1, description="What was judged: the answer as a whole."
    )
    judge: str = Field(default="gpt-4o", min_length=1, description="Who judged.")

    marks: ClassVar[tuple[str, ...]] = FIELDS
    pictures: ClassVar[tuple[str, ...]] = ("image",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        asked, verdict = _turns(row)
        sections = _sections(asked)
        names = (ONLY,) if ONLY in sections else (FIRST, SECOND)
        answers = [sections[name] for name in names]
        if len(set(answers)) < len(answers):
            raise RowError("the two responses are the same answer", "same-answers")
        comparisons = () if ONLY in sections else (self._comparison(verdict),)
        ratings = (self._rating(asked, verdict),) if ONLY in sections else ()
        images = take_images(row, "image", self.image_root)
        prompt, marks = marked_question(sections[QUESTION], images)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=prompt,
            responses=tuple(map(Response, answers)),
            images=images,
            comparisons=comparisons,
            ratings=ratings,
            critiques=(Critique(verdict, 0 if ONLY in sections else None, self.objective, self.judge),),
            provenance={**told(row, ("id", "source")), **marks, **others(row, FIELDS)},
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        # LLaVA's own rows have the same fields
        turns = row.get("conversations")
        first = turns[0] if isinstance(turns, list) and turns else None
        text = first.get("value") if isinstance(first, dict) else None
        if isinstance(text, str) and row.get("image") is not None:
            try:
                _sections(text)
            except RowError:
                return None
            return "has image and conversations that ask for a verdict"
        return None

    def _comparison(self, verdict: str) -> Comparison:
        better = read_verdict(verdict)
        if better is None:
            raise RowError("the verdict doesn't say plainly which response is better", "no-preference")
        if better == "tie":
            return Comparison(self.objective, 0, 1, tie=True, judge=self.judge)
        return Comparison(self.objective, better, 1 - better, judge=self.judge)

    def _rating(self, asked: str, verdict: str) -> Rating:
        scales = {int(match["scale"]) for match in _SCALE.finditer(asked)}
        scores = {float(match["score"]) for match in _SCORE.finditer(verdict)}
        named = {int(match["scale"]) for match in _SCORE.finditer(verdict) if match["scale"]}
        if len(scales) != 1 or len(scores) != 1 or not named <= scales:
            raise RowError(
                "the verdict doesn't say plainly one score on the scale that was asked for", "no-preference"
            )
        (high,), (score,) = scales, scores
        if score > high:
            raise RowError("the verdict's score is above its scale", "no-preference")
        return Rating(self.objective, 0, score, 0.0, float(high), self.judge)


def _index(match: re.Match[str]) -> int:
    return int(match["number"]) - 1 if match["number"] else ("first", "second").index(match["order"].lower())


def _turns(row: dict[str, Any]) -> tuple[str, str]:
    """What was asked of the judge, and what it said."""
    turns = take_dialogue(row, "conversations")
    if [role for role, _ in turns] != ["user", "assistant"]:
        raise RowError("conversations is not one question to the judge and its verdict")
    return turns[0][1], turns[1][1]


def _sections(asked: str) -> dict[str, str]:
    """The question and the one or two answers that the judge was shown, by their names."""
    labels = list(_LABEL.finditer(asked))
    names = [_name(label) for label in labels]
    if names not in ([QUESTION, ONLY], [QUESTION, FIRST, SECOND]):
        raise RowError("conversations doesn't name a question and one or two responses, each once")
    ends = [*(label.start() for label in labels[1:]), len(asked)]
    texts = [asked[label.end() : end] for label, end in zip(labels, ends, strict=True)]
    texts[-1] = _END.sub("", texts[-1])
    return {name: _unbracketed(text.strip(), name) for name, text in zip(names, texts, strict=True)}


def _name(label: re.Match[str]) -> str:
    if label["question"]:
        return QUESTION
    return ONLY if label["only"] else (FIRST, SECOND)[_index(label)]


def _unbracketed(text: str, name: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    elif text.startswith("["):
        raise RowError(f"the {name} section goes on after its bracket")
    return check_text(text, f"the {name} section")
