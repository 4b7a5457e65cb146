"""Nectar: seven answers to a prompt, which GPT-4 ranked.

The fields are known from memory only, so each is checked, and named where it isn't there.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, check_text, model_name, take_text
from data_tools.adapters.dialogues import text_messages
from data_tools.adapters.provenance import others, plain, told
from data_tools.adapters.ratings import read_rating
from data_tools.adapters.structs import take_structs
from data_tools.adapters.transcript import ANSWER, TURN, speakers
from data_tools.schema import PreferenceRecord, Ranking, Response

MOST = 100  # of a rank
OWN = ("turns", "num_responses", "good_natured")
KEPT = ("source", *OWN)


class NectarConfig(FileSource):
    """Nectar: a ranking of several answers."""

    type: Literal["nectar"] = "nectar"
    objective: str = Field(default="helpfulness", min_length=1, description="What the ranking was about.")
    judge: str = Field(default="gpt-4", min_length=1, description="Who ranked.")

    marks: ClassVar[tuple[str, ...]] = ("prompt", "answers")

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        asked = check_text(take_text(row, "prompt").removesuffix(ANSWER.strip()), "prompt")
        turns = speakers(asked) if TURN.match(asked) else [("user", asked)]
        responses: list[Response] = []
        places: dict[float, list[int]] = {}
        unread = []
        for number, answer in enumerate(take_structs(row, "answers")):
            rank, why = read_rating(answer.get("rank"), 1, MOST)
            text = answer.get("answer")
            if rank is None or not isinstance(text, str) or not text.strip():
                why = "no text, or a blank one" if rank is not None else f"rank: {why}"
                unread.append({"answer": number, "value": plain(answer.get("rank")), "why": why})
                continue
            places.setdefault(rank, []).append(len(responses))
            responses.append(Response(check_text(text, "an answer"), model_name(answer.get("model"))))
        if len(responses) < 2:
            raise RowError("answers has no two with a text and a rank", "no-preference")
        order = tuple(tuple(places[rank]) for rank in sorted(places))
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=text_messages(turns),
            responses=tuple(responses),
            rankings=(Ranking(self.objective, order, self.judge),),
            provenance={
                **told(row, KEPT),
                **({"unread": unread} if unread else {}),
                **others(row, (*self.marks, *KEPT)),
            },
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        answers = row.get("answers")
        first = answers[0] if isinstance(answers, list) and answers else None
        ranked = isinstance(first, dict) and {"answer", "rank"} <= first.keys()
        # anybody's ranked answers may be called so
        own = [key for key in OWN if row.get(key) is not None]
        return (
            f"{super().recognise(row)}, {', '.join(own)}"
            if ranked and own and super().recognise(row)
            else None
        )
