"""What the tests of the adapters share: fixture files, and what came of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_tools.adapters.base import FileSource
from data_tools.schema import PreferenceRecord
from data_tools.source import Read, Rejected

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def read(adapter: type[FileSource], name: str, **settings: Any) -> list[PreferenceRecord | Rejected | None]:
    """What came of each row of a fixture; None where the record was given with another row."""
    config = adapter(name="x", path=FIXTURES / name, **settings)
    return [item if isinstance(item, Rejected) else (item or (None,))[0] for item in config.read(0)]


def good(result: Read | PreferenceRecord | None) -> PreferenceRecord:
    """The one record that came of a row."""
    if isinstance(result, tuple):
        (result,) = result
    assert isinstance(result, PreferenceRecord), result
    return result


def why(result: Read | PreferenceRecord | None) -> tuple[str, str]:
    """The code and the reason of a rejected row."""
    assert isinstance(result, Rejected), result
    return result.code, result.reason


def scores(record: PreferenceRecord) -> dict[tuple[int, str], float]:
    """The value of each rating by response and objective; no two ratings share these."""
    found = {(rating.response, rating.objective): rating.value for rating in record.ratings}
    assert len(found) == len(record.ratings)
    return found
