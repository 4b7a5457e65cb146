"""VisionArena-Battle and arena-human-preference: two models' answers, of which a user held one better.

The vote is about two conversations. Where these differ before the last answers, as in most with several turns, the
answers are to two prompts, which no record holds; such a row is counted apart.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from data_tools.adapters.base import FileSource, RowError, model_name, take_images, take_text
from data_tools.adapters.dialogues import shown_messages, split_dialogues, take_dialogue, text_messages
from data_tools.adapters.provenance import others, told
from data_tools.schema import Comparison, PreferenceRecord, Response

SIDES = ("conversation_a", "conversation_b")
MODELS = ("model_a", "model_b")
TIES = ("tie", "tie (bothbad)", "both_bad")
KEPT = (
    "id",
    "question_id",
    "winner",
    "judge",
    "num_turns",
    "turn",
    "language",
    "category_tag",
    "conv_metadata",
)


class ArenaConfig(FileSource):
    """Votes of an arena: one of two answers, or neither."""

    type: Literal["arena"] = "arena"
    objective: str = Field(default="helpfulness", min_length=1, description="What the vote was about.")
    judge: str = Field(default="human", min_length=1, description="Who voted.")

    marks: ClassVar[tuple[str, ...]] = (*SIDES, *MODELS, "winner")
    pictures: ClassVar[tuple[str, ...]] = ("images",)

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        comparison = self._vote(row)
        prompt, answers = split_dialogues([take_dialogue(row, side) for side in SIDES], SIDES)
        if answers[0] == answers[1]:
            raise RowError(f"the answers of {' and '.join(SIDES)} are the same", "same-answers")
        images = take_images(row, "images", self.image_root, needed=False)
        return PreferenceRecord(
            id=f"{self.name}-{where}",
            source=self.name,
            prompt=shown_messages(prompt, images) if images else text_messages(prompt),
            responses=tuple(
                Response(text, model_name(row.get(model)))
                for text, model in zip(answers, MODELS, strict=True)
            ),
            images=images,
            comparisons=(comparison,),
            provenance={**told(row, KEPT), **others(row, (*self.marks, *KEPT, "images"))},
        )

    def _vote(self, row: dict[str, Any]) -> Comparison:
        """The comparison that the winner is; both bad is a tie, and the provenance says which."""
        winner = take_text(row, "winner")
        if winner in TIES:
            return Comparison(self.objective, 0, 1, tie=True, judge=self.judge)
        if winner not in MODELS:
            raise RowError(f"winner is none of {', '.join((*MODELS, *TIES))}", "no-preference")
        better = MODELS.index(winner)
        return Comparison(self.objective, better, 1 - better, judge=self.judge)
