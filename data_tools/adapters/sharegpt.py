"""Rows of `conversations` ({from, value}), as LLaVA, ShareGPT and LLaMA-Factory have them: demonstrations."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from data_tools.adapters.chat import read_turns, with_system
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.own_rows import EVERY, IMAGES, OwnRows, demonstrations
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord

JUDGED = ("chosen", "rejected", "rejected_conversations", "output_1", "kto_tag", "label", "preference")


class ShareGptConfig(OwnRows):
    """Conversations whose answers are demonstrations."""

    type: Literal["sharegpt"] = "sharegpt"
    answers: Literal["every", "last"] = EVERY

    marks: ClassVar[tuple[str, ...]] = ("conversations",)

    def convert(self, row: dict[str, Any], where: str) -> tuple[PreferenceRecord, ...]:
        for key in JUDGED:
            if not is_blank(row.get(key)):
                raise RowError(f"has {key}: its answers were judged, and are no demonstrations")
        if row.get("conversations") is None:
            raise RowError("has no field conversations", "field-missing")
        turns = with_system(read_turns(row["conversations"], "conversations"), row.get("system"))
        if turns[-1].role != "assistant":
            raise RowError("conversations doesn't end with an answer")
        return demonstrations(
            self, row, where, turns, ("conversations", "system", *IMAGES), self.answers == "every"
        )

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        given = row.get("conversations")
        turns = (
            isinstance(given, list)
            and all(isinstance(turn, dict) and "from" in turn for turn in given)
            and given
        )
        if not turns or any(row.get(key) is not None for key in JUDGED):
            return None
        return f"has {', '.join(key for key in ('conversations', *IMAGES) if row.get(key) is not None)}"
