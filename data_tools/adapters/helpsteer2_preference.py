"""HelpSteer2's `preference/`: two answers, by how much people preferred one, and what they said."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, check_text, take_text
from data_tools.adapters.marked_turns import marked_turns
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.provenance import others, told
from data_tools.adapters.ratings import read_rating, signed_comparison
from data_tools.schema import Critique, PreferenceRecord, Response

ANSWERS = ("response_1", "response_2")
STRENGTH = "preference_strength"
WORDS = ("preference_statement", "preference_elaboration")
SINGLE = "all_preferences_unprocessed"  # what each person said, in later revisions
MOST = 3  # an answer is better by so much at most
SPLITS = {"train": "train", "val": "validation", "validation": "validation"}


class HelpSteer2PreferenceConfig(FileSource):
    """HelpSteer2's preferences: `preference_strength` from -3 to 3, 0 being a tie.

    That a negative one prefers response 1 is not verified: see `negative_prefers`.
    """

    type: Literal["helpsteer2_preference"] = "helpsteer2_preference"
    objective: str = Field(default="helpfulness", min_length=1, description="What the people judged.")
    judge: str = Field(default="human", min_length=1, description="Who judged.")
    negative_prefers: Literal["response_1", "response_2"] = Field(
        default="response_1",
        description="The answer that a negative strength holds better (not verified); compare a few rows with their "
        "statements before you rely on it.",
    )

    marks: ClassVar[tuple[str, ...]] = ("prompt", *ANSWERS, STRENGTH)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        prompt = marked_turns(take_text(row, "prompt"))
        answers = [take_text(row, key) for key in ANSWERS]
        if answers[0] == answers[1]:
            raise RowError(f"{' and '.join(ANSWERS)} are the same answer", "same-answers")
        if STRENGTH not in row:
            raise RowError(f"has no field {STRENGTH}", "field-missing")
        value, why = read_rating(row[STRENGTH], -MOST, MOST)
        if value is None:
            raise RowError(f"{STRENGTH}: {why}", "no-preference")
        split = row.get("split")
        split = split.strip() if isinstance(split, str) else ""
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=prompt,
            responses=tuple(map(Response, answers)),
            comparisons=(
                signed_comparison(value, self.objective, self.judge, self.negative_prefers == "response_1"),
            ),
            critiques=tuple(
                Critique(check_text(row[key], key), None, self.objective, self.judge)
                for key in WORDS
                if not is_blank(row.get(key))
            ),
            split=SPLITS.get(split, "train"),
            provenance={
                **told(row, (SINGLE,)),
                **others(row, (*self.marks, *WORDS, *(("split",) if split in SPLITS else ()))),
            },
        )
