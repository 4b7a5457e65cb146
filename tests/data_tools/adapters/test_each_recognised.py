"""Every fixture's rows are known for what they are, and damaged ones never make an adapter raise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from text_fixtures import FIXTURES

from data_tools.adapters import ADAPTERS
from data_tools.adapters.base import FileSource
from data_tools.adapters.columns import ColumnsConfig
from data_tools.adapters.recognise import recognise
from data_tools.rows.open import all_rows
from data_tools.schema import PreferenceRecord, from_json, to_json
from data_tools.source import CODES, Rejected

TYPES: dict[str, type[FileSource]] = {adapter.model_fields["type"].default: adapter for adapter in ADAPTERS}
FILES = sorted(FIXTURES.glob("*.json*"))


def owner(path: Path) -> type[FileSource]:
    """The adapter that a fixture is named after: `TYPE.jsonl`, or `TYPE` and more."""
    return TYPES[max((name for name in TYPES if path.name.startswith(name)), key=len)]


def name_of(path: Path) -> str:
    return str(owner(path).model_fields["type"].default)


def rows_of(path: Path) -> list[Any]:
    return [item if isinstance(item, Rejected) else item[1] for item in all_rows(path)]


def good_rows(path: Path) -> list[dict[str, Any]]:
    config = owner(path)(name="x", path=path)
    return [row for row in rows_of(path) if not isinstance(config.adapt(row), Rejected)]


def format_of(rows: list[dict[str, Any]], path: Path) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recognise(path).name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_fixture_is_known_by_its_own_adapter(path: Path, tmp_path: Path) -> None:
    assert format_of(good_rows(path), tmp_path / "rows.jsonl") == name_of(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_one_odd_row_of_fifty_changes_nothing(path: Path, tmp_path: Path) -> None:
    """Odd in that it lacks one field, whichever, or has null or another value there."""
    typical = next(row for row in good_rows(path) if owner(path).recognise(row))
    odd = [{key: value for key, value in typical.items() if key != field} for field in typical]
    odd += [{**typical, field: value} for field in typical for value in (None, "another", [])]
    odd += [{**typical, "is_tie": True}]
    for row in odd:
        assert format_of([row] + [typical] * 49, tmp_path / "rows.jsonl") == name_of(path), row


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_table_with_the_fields_of_every_format_is_known_by_those_that_are_filled(
    path: Path, tmp_path: Path
) -> None:
    typical = next(row for row in good_rows(path) if owner(path).recognise(row))
    union = {**dict.fromkeys(key for other in FILES for row in good_rows(other) for key in row), **typical}
    assert format_of([union] * 4, tmp_path / "rows.jsonl") == name_of(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_row_of_a_fixture_is_a_record_or_says_why(path: Path) -> None:
    reads = list(owner(path)(name="x", path=path).read(0))
    assert len(reads) == len(rows_of(path))
    for read in reads:
        if isinstance(read, Rejected):
            assert read.code in CODES
            assert read.row is not None
            continue
        for record in read:
            kept = json.loads(json.dumps(to_json(record), allow_nan=False))
            again = from_json(kept, tuple(b"" for _ in record.images))
            assert (again.labels, again.provenance) == (record.labels, record.provenance)


def test_plain_rows_of_other_kinds_are_not_claimed() -> None:
    for row in (
        {},
        {"text": "a"},
        {"chosen": "a", "rejected": "b"},
        {"prompt": "a", "response": "b"},
        {"completion": "b"},
        {"question": "a", "answer": "b"},
        {"prompt": "a", "note": "b"},
        {"prompt": "a", "completions": ["b"]},
        {"context": "a", "response": "b"},
    ):
        assert [name for name, adapter in TYPES.items() if adapter.recognise(row)] == []


FIXTURE_ROWS = [(path, row) for path in FILES for row in rows_of(path) if isinstance(row, dict)]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "N/A", "4", "five", "\ud800", "<image>", "../x"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Rating", "role", "content", "response", "annotations"]), inner)
    ),
    max_leaves=6,
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_row_never_makes_an_adapter_raise(data: st.DataObject) -> None:
    path, row = data.draw(st.sampled_from(FIXTURE_ROWS))
    damaged = damage(data, row)
    for adapter in (owner(path), data.draw(st.sampled_from(list(TYPES.values())))):
        adapter.recognise(damaged)
        config = adapter(name="x", path=path, **({"prompt": "prompt"} if adapter is ColumnsConfig else {}))
        config.key(damaged)
        for read in (config.adapt(damaged), *config.convert_group([("a", damaged), ("b", row)])):
            assert isinstance(read, Rejected) or all(isinstance(item, PreferenceRecord) for item in read)
            assert not isinstance(read, Rejected) or read.code in CODES


def damage(data: st.DataObject, value: Any) -> Any:
    """The value with something below it, drawn at random, taken out or replaced."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 3)) == 0:
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: damage(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], damage(data, value[place]), *value[place + 1 :]]
    return data.draw(VALUES)
