"""HelpSteer3: two answers, which of them several people preferred and how much, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, check_roles, check_text, take_text
from data_tools.adapters.dialogues import take_dialogue, text_messages
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import read_rating, signed_comparison
from data_tools.adapters.structs import structs
from data_tools.schema import Comparison, Critique, Message, PreferenceRecord, Response

KEPT = ("domain", "language")
MOST = 3  # an answer is better by so much at most


class HelpSteer3Config(FileSource):
    """HelpSteer3's preferences: `overall_preference` from -3 (response 1 is much better) to 3 (response 2 is), 0 a tie.

    So the data card and NVIDIA's NeMo-RL read the sign.
    """

    type: Literal["helpsteer3"] = "helpsteer3"
    objective: str = Field(default="helpfulness", min_length=1, description="What the people judged.")
    negative_prefers: Literal["response1", "response2"] = Field(
        default="response1",
        description="The answer that a negative preference holds better; response2 for copies with the sign turned.",
    )

    judge: str = Field(
        default="human", min_length=1, description="Who judged; single votes are of NAME-1, NAME-2 ..."
    )

    marks: ClassVar[tuple[str, ...]] = ("context", "response1", "response2", "overall_preference")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt = _messages(row)
        answers = [take_text(row, key) for key in ("response1", "response2")]
        if answers[0] == answers[1]:
            raise RowError("response1 and response2 are the same answer", "same-answers")
        if "overall_preference" not in row:
            raise RowError("has no field overall_preference", "field-missing")
        value, why = read_rating(row["overall_preference"], -MOST, MOST)
        if value is None:
            raise RowError(f"overall_preference: {why}", "no-preference")
        given = row.get("individual_preference")
        judges = [] if given is None else structs(given, "individual_preference")
        votes, unread = self._votes(judges)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=prompt,
            responses=tuple(map(Response, answers)),
            comparisons=(self._comparison(value, self.judge),),
            critiques=self._critiques(judges),
            votes=votes,
            provenance={
                **told(row, KEPT),
                **({"unread": unread} if unread else {}),
                **others(row, (*self.marks, *KEPT, "individual_preference")),
            },
        )

    def _comparison(self, value: float, judge: str) -> Comparison:
        """The judgement that a preference is."""
        return signed_comparison(value, self.objective, judge, self.negative_prefers == "response1")

    def _votes(self, judges: Sequence[dict[str, Any]]) -> tuple[tuple[Comparison, ...], list[dict[str, Any]]]:
        """Each judge's own choice, and those scores that can't be read."""
        votes, unread = [], []
        for number, said in enumerate(judges, 1):
            value, why = read_rating(said.get("score"), -MOST, MOST)
            if value is None:
                unread.append({"judge": self._judge(number), "value": plain(said.get("score")), "why": why})
            else:
                votes.append(self._comparison(value, self._judge(number)))
        return tuple(votes), unread

    def _critiques(self, judges: Sequence[dict[str, Any]]) -> tuple[Critique, ...]:
        return tuple(
            Critique(check_text(said[key], key), response, self.objective, self._judge(number))
            for number, said in enumerate(judges, 1)
            for key, response in (("reasoning", None), ("feedback1", 0), ("feedback2", 1))
            if isinstance(said.get(key), str) and said[key].strip()
        )

    def _judge(self, number: int) -> str:
        """A judge's name within the record: the data don't say who is the same in another one."""
        return f"{self.judge}-{number}"


def _messages(row: dict[str, Any]) -> tuple[Message, ...]:
    turns = take_dialogue(row, "context")
    if turns[-1][0] != "user":
        raise RowError("context doesn't end with a user's turn")
    check_roles([role for role, _ in turns])
    return text_messages(turns)
