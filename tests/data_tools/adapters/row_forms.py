"""Rows by an adapter's name, for the tests of what all forms of people's own rows share."""

from __future__ import annotations

from typing import Any

from text_fixtures import FIXTURES

from data_tools.adapters import ADAPTERS
from data_tools.schema import PreferenceRecord
from data_tools.source import Read

TYPES = {str(adapter.model_fields["type"].default): adapter for adapter in ADAPTERS}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def adapted(kind: str, row: dict[str, Any], **settings: Any) -> Read:
    """What the adapter makes of the row; pictures lie in `images/` beside it."""
    return TYPES[kind](name="x", path=FIXTURES / "rows.jsonl", **settings).adapt(row)


def prompt(record: PreferenceRecord) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in record.prompt]
