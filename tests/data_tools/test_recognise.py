"""Which format rows have, by what they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data_tools.adapters import recognise as module
from data_tools.adapters.base import FileSource
from data_tools.adapters.recognise import Recognised, recognise
from data_tools.errors import UserError


class One(FileSource):
    """A format of two fields."""

    type: str = "one"
    marks: ClassVar[tuple[str, ...]] = ("a", "b")


class Two(FileSource):
    """The same with one more."""

    type: str = "two"
    marks: ClassVar[tuple[str, ...]] = ("a", "b", "c")


class Three(FileSource):
    """As many fields as `One`."""

    type: str = "three"
    marks: ClassVar[tuple[str, ...]] = ("a", "d")


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], Recognised]:
    monkeypatch.setattr(module, "ADAPTERS", (One, Two, Three))

    def look(rows: list[Any]) -> Recognised:
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return recognise(path)

    return look


def fields(names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def test_the_format_that_most_rows_fit(found: Callable[[list[Any]], Recognised]) -> None:
    rows = [fields("ab"), fields("abx"), fields("abc"), 7]
    assert found(rows) == Recognised("one", "3 of the first 4 rows: has a, b")


def test_of_several_the_more_specific_one(found: Callable[[list[Any]], Recognised]) -> None:
    assert found([fields("abcd")] * 60) == Recognised("two", "50 of the first 50 rows: has a, b, c")


def test_a_tie_is_told(found: Callable[[list[Any]], Recognised]) -> None:
    with pytest.raises(UserError) as error:
        found([fields("abd")] * 3)
    assert str(error.value).partition("x.jsonl: ")[2] == (
        "its rows may be of several formats. Their fields: a, b, d. Formats that fit: one (3 of 3 rows), "
        "three (3 of 3 rows). Name one with --from NAME, out of: one, three, two. Rows of any other fields: "
        "--from columns --set prompt=FIELD --set chosen=FIELD --set rejected=FIELD --set image=FIELD, "
        "or an adapter of your own (docs/data.md)"
    )


def test_rows_of_no_format_are_told(found: Callable[[list[Any]], Recognised]) -> None:
    with pytest.raises(
        UserError, match=r"no known format. Their fields: x, y. Formats that fit: none. Name one"
    ):
        found([fields("xy")])
    with pytest.raises(UserError, match=r"no known format.*one \(1 of 3 rows\)"):
        found([fields("ab"), fields("x"), fields("x")])  # less than half
    with pytest.raises(UserError, match=r"none \(they are no JSON objects\)"):
        found([1, 2])
    with pytest.raises(UserError, match="none of its first 50 rows can be read"):
        found([])


def test_real_data(real_data: Callable[[str], Path]) -> None:
    for name, folder in (
        ("hh_rlhf", "hh-rlhf"),
        ("llamafactory", "llamafactory-dpo-en"),
        ("nlvr", "nlvr/dev"),
    ):
        assert recognise(real_data(folder)).name == name
