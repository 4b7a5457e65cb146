"""Prompts to be answered, with the right answer where there is one.

EasyR1 has them as `problem`, `answer`, verl as `prompt`, `reward_model.ground_truth`, TRL's GRPO as `prompt`,
`solution`. The right answer becomes the record's `reference`, under `answer`, which `exact_match` reads.
"""

from __future__ import annotations

from typing import Any, Literal

from data_tools.adapters.chat import read_turns, with_system
from data_tools.adapters.media_kinds import is_blank
from data_tools.adapters.own_rows import IMAGES, REFERENCES, OwnRows, take_reference
from data_tools.adapters.provenance import told
from data_tools.adapters.row_error import RowError
from data_tools.schema import PreferenceRecord

ASKED = ("problem", "prompt", "question", "query")
_ANSWERS = ("chosen", "rejected", "completion", "completions", "response", "responses", "output", "messages")
_BESIDE = ("id", "index", "data_source", "ability", "extra_info", "system")


class RlPromptsConfig(OwnRows):
    """Prompts without answers, with a reference answer or without one."""

    type: Literal["rl_prompts"] = "rl_prompts"

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        for key in ("chosen", "rejected", "completion", "response", "output"):
            if not is_blank(row.get(key)):
                raise RowError(f"has {key}, an answer that a prompt doesn't have")
        asked = next((key for key in ASKED if row.get(key) is not None), None)
        if asked is None:
            raise RowError(f"has none of the fields {', '.join(ASKED)}", "field-missing")
        turns = with_system(read_turns(row[asked], asked), row.get("system"))
        reference, key = take_reference(row)
        record = self.record(row, where, turns, (asked, key, "system"), reference=reference)
        record.provenance.update(told(row, ("extra_info",)))
        return record

    @classmethod
    def recognise(cls, row: dict[str, Any]) -> str | None:
        asked = next((key for key in ("problem", "prompt") if row.get(key) is not None), None)
        if asked is None or any(row.get(key) is not None for key in _ANSWERS):
            return None
        known = [key for key in (*REFERENCES, "reward_model") if row.get(key) is not None]
        if known:
            return f"has {asked}, {', '.join(known)}"
        held = {key for key, value in row.items() if value is not None}
        return f"has {asked} and no answer" if held <= {asked, *IMAGES, *_BESIDE} else None
