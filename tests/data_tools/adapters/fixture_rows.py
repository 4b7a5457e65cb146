"""Reads the fixtures: a few rows of each public format, good and malformed ones, in the form the data have."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from data_tools.adapters.base import FileSource
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def read(config: type[FileSource], file: str, **fields: Any) -> list[PreferenceRecord | Rejected]:
    """What is made of the fixture's rows, one each."""
    source = config(name="x", path=FIXTURES / file, **fields)
    return list(source.generate(0))


def rows_of(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FIXTURES / file).read_text(encoding="utf-8").splitlines()]


def good(item: PreferenceRecord | Rejected) -> PreferenceRecord:
    assert isinstance(item, PreferenceRecord), item
    return item


def faults(items: list[PreferenceRecord | Rejected]) -> dict[str, tuple[str, str]]:
    """Why each row is rejected, and the code, by its place in the file."""
    return {
        item.where.partition(".json")[2].lstrip("l"): (item.reason, item.code)
        for item in items
        if isinstance(item, Rejected)
    }


def image_bytes(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its image as Parquet holds it: bytes in place of base64."""
    image = row["image"]
    return {**row, "image": {**image, "bytes": base64.b64decode(image["bytes"])}}
