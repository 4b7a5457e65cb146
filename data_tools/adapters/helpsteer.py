"""HelpSteer and HelpSteer2: one answer a row, rated in five aspects; the rows of one prompt are neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from data_tools.adapters.base import RowError, guarded, take_text
from data_tools.adapters.marked_turns import marked_turns
from data_tools.adapters.media import without_fields
from data_tools.adapters.ratings import RatedSource, Sheet, read_rating
from data_tools.schema import PreferenceRecord
from data_tools.source import Read, Rejected

LOW, HIGH = 0, 4


class HelpSteerConfig(RatedSource):
    """HelpSteer and HelpSteer2: ratings from 0 to 4; rows of one prompt in a row become one record.

    `complexity` and `verbosity` say how much of it there is, not how good it is.
    """

    type: Literal["helpsteer"] = "helpsteer"

    grouped: ClassVar[bool] = True
    marks: ClassVar[tuple[str, ...]] = (
        "prompt",
        "response",
        "helpfulness",
        "correctness",
        "coherence",
        "complexity",
        "verbosity",
    )
    aspects: ClassVar[dict[str, str]] = {
        "helpfulness": "helpfulness",
        "correctness": "factuality",
        "coherence": "coherence",
        "complexity": "complexity",
        "verbosity": "verbosity",
    }

    def key(self, row: dict[str, Any]) -> str | None:
        prompt = row.get("prompt")
        return prompt.strip() if isinstance(prompt, str) else None

    def convert(self, row: dict[str, Any], where: str) -> PreferenceRecord:
        self._check(row)
        return self._joined([(where, row)])

    def convert_group(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> Sequence[Read]:
        """The record of all rows that can be in it, given with the first of them."""
        reads: list[Read] = [guarded(self.reading_all_media(self._check), row, where) for where, row in rows]
        good = [number for number, read in enumerate(reads) if not isinstance(read, Rejected)]
        if good:
            kept = [(where, without_fields(row, self.ignore_fields)[0]) for where, row in rows]
            reads[good[0]] = (self._joined([kept[number] for number in good]),)
        return reads

    def _check(self, row: dict[str, Any]) -> tuple[PreferenceRecord, ...]:
        """Nothing, where the row's answer can be in a record; raises RowError where it can't."""
        marked_turns(take_text(row, "prompt"))
        take_text(row, "response")
        if all(read_rating(row.get(aspect), LOW, HIGH)[0] is None for aspect in self.aspects):
            raise RowError("no response has a rating that can be read", "no-preference")
        return ()

    def _joined(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> PreferenceRecord:
        sheet = Sheet(self)
        for _, row in rows:
            response = sheet.answer(take_text(row, "response"))
            for aspect in self.aspects:
                sheet.rate(response, aspect, row.get(aspect), LOW, HIGH)
        where, row = rows[0]
        provenance = {"rows": [place for place, _ in rows]} if len(rows) > 1 else {}
        return sheet.record(where, marked_turns(take_text(row, "prompt")), provenance)
