"""What the exports of annotation tools share: which fields hold the prompt and the answers, and what people said.

The names of fields are each project's own, so they are settings. Each person's choice between two answers is a vote,
and the comparison is what more of them chose; a rating and a ranking stay each person's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from data_tools.adapters.base import FileSource, RowError, take_images, take_text
from data_tools.adapters.dialogues import Turn, shown_messages, take_dialogue, text_messages
from data_tools.adapters.provenance import plain
from data_tools.adapters.ratings import read_rating, sum_votes
from data_tools.schema import Comparison, Critique, PreferenceRecord, Ranking, Rating, Response

TIE = "tie"


class AnnotatedSource(FileSource):
    """Base of the exports of annotation tools."""

    prompt: str = Field(
        default="prompt",
        min_length=1,
        description="The field of the prompt: a text, or messages of role and content.",
    )
    answers: list[str] = Field(
        default=["response_1", "response_2"],
        min_length=1,
        description="The fields of the answers, in their order.",
    )
    image: str = Field(
        default="image",
        min_length=1,
        description="The field of the image or images, of the rows that have it.",
    )
    choices: dict[str, str] = Field(
        default={},
        description=f"What a chosen label means: {{label: field of an answer, or {TIE}}}. A field's own name and {TIE} "
        "mean themselves.",
    )
    objective: str = Field(default="helpfulness", min_length=1, description="What the people were asked.")
    judge: str = Field(
        default="human",
        min_length=1,
        description="Who judged; single people are NAME-USER, by the user's id.",
    )
    lowest: float = Field(default=1.0, description="The lowest rating of the project's scale.")
    highest: float = Field(default=5.0, description="The highest rating of the project's scale.")

    @model_validator(mode="after")
    def _check_settings(self) -> AnnotatedSource:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest is {self.lowest:g}, and must be below highest, {self.highest:g}")
        if len(set(self.answers)) < len(self.answers):
            raise ValueError("answers names a field twice")
        for label, answer in self.choices.items():
            if answer != TIE and answer not in self.answers:
                raise ValueError(
                    f"choices: {label!r} means {answer!r}, which is neither {TIE} nor in answers"
                )
        return self

    @property
    def picture_fields(self) -> Sequence[str]:
        return (self.image,)

    def name_of(self, user: object) -> str:
        """A person's name as a judge."""
        known = isinstance(user, str | int) and not isinstance(user, bool) and str(user).strip()
        return f"{self.judge}-{plain(str(user).strip())}" if known else self.judge

    def turns_of(self, fields: dict[str, Any]) -> list[Turn]:
        """The prompt's turns."""
        if isinstance(fields.get(self.prompt), list | dict):
            turns = take_dialogue(fields, self.prompt)
            if turns[-1][0] != "user":
                raise RowError(f"{self.prompt} doesn't end with a user's turn")
            return turns
        return [("user", take_text(fields, self.prompt))]

    def record(
        self, where: str, fields: dict[str, Any], sheet: AnswerSheet, provenance: dict[str, Any]
    ) -> PreferenceRecord:
        """The record of the fields that were shown and of what is on the sheet.

        Raises:
            RowError: a field isn't there, the answers are the same, or nothing was judged.
        """
        turns, answers = self.turns_of(fields), [take_text(fields, name) for name in self.answers]
        if len(answers) == 2 and answers[0] == answers[1]:
            raise RowError(f"{' and '.join(self.answers)} are the same answer", "same-answers")
        if not sheet.judged:
            raise RowError("nobody has judged it: no answers, or only drafts and skipped ones", "not-judged")
        if not (sheet.votes or sheet.rankings or sheet.ratings):
            raise RowError("nobody's judgement can be read", "no-preference")
        images = take_images(fields, self.image, self.image_root, needed=False)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=shown_messages(turns, images) if images else text_messages(turns),
            responses=tuple(map(Response, answers)),
            images=images,
            comparisons=tuple(sum_votes(sheet.votes, self.judge)),
            votes=tuple(sheet.votes),
            ratings=tuple(sheet.ratings),
            rankings=tuple(sheet.rankings),
            critiques=tuple(sheet.critiques),
            provenance={**provenance, **({"unread": sheet.unread} if sheet.unread else {})},
        )


@dataclass
class AnswerSheet:
    """What people said of the answers of one row, while it is being read. It is `judged` once anybody said anything."""

    source: AnnotatedSource
    votes: list[Comparison] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    critiques: list[Critique] = field(default_factory=list)
    unread: list[dict[str, Any]] = field(default_factory=list)
    judged: bool = False

    def choose(self, label: object, objective: str, judge: str) -> None:
        """Adds a choice of one of two answers, or of none, by its label."""
        self.judged = True
        source = self.source
        answer = source.choices.get(label, label) if isinstance(label, str) else None
        if len(source.answers) != 2 or (answer != TIE and answer not in source.answers):
            self.refuse(label, judge, f"neither {TIE} nor one of two answers; see choices")
            return
        better = 0 if answer == TIE else source.answers.index(str(answer))
        self.votes.append(Comparison(objective, better, 1 - better, tie=answer == TIE, judge=judge))

    def rate(self, answer: str, value: object, objective: str, judge: str) -> None:
        """Adds a rating of the answer in that field."""
        self.judged = True
        number, why = read_rating(value, self.source.lowest, self.source.highest)
        if answer not in self.source.answers:
            number, why = None, "of no field in answers"
        if number is None:
            self.refuse(value, judge, why)
            return
        low, high = self.source.lowest, self.source.highest
        self.ratings.append(Rating(objective, self.source.answers.index(answer), number, low, high, judge))

    def rank(self, ranks: Sequence[tuple[object, object]], objective: str, judge: str) -> None:
        """Adds a ranking out of (field of an answer, rank); 1 is the best, and equal ranks are a tie."""
        self.judged = True
        places: dict[float, list[int]] = {}
        for answer, rank in ranks:
            number, _ = read_rating(rank, 0, len(ranks))
            if number is None or answer not in self.source.answers:
                self.refuse([[plain(item) for item in pair] for pair in ranks], judge, "no ranks of answers")
                return
            places.setdefault(number, []).append(self.source.answers.index(str(answer)))
        order = tuple(tuple(places[rank]) for rank in sorted(places))
        indices = [index for group in order for index in group]
        if len(indices) < 2 or len(set(indices)) < len(indices):
            self.refuse([[plain(item) for item in pair] for pair in ranks], judge, "no ranks of answers")
            return
        self.rankings.append(Ranking(objective, order, judge))

    def criticise(self, words: object, answer: object, objective: str, judge: str) -> None:
        """Adds what somebody wrote, of the answer in that field, or of all."""
        self.judged = True
        if isinstance(words, str) and words.strip():
            index = next((place for place, name in enumerate(self.source.answers) if name == answer), None)
            self.critiques.append(Critique(take_text({"": words}, "", "a text"), index, objective, judge))

    def refuse(self, value: object, judge: str, why: str) -> None:
        """Notes a judgement that isn't read."""
        self.judged = True
        self.put_off(value, judge, why)

    def put_off(self, value: object, judge: str, why: str) -> None:
        """Notes what is no judgement yet: a draft, or what somebody skipped."""
        self.unread.append({"judge": judge, "value": plain(value), "why": why})
