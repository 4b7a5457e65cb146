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


def known(tmp_path: Path, *rows: dict[str, Any]) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recognise(path).name


TALK = {
    side: [{"role": "user", "content": "q"}, {"role": "assistant", "content": side}]
    for side in ("chosen", "rejected")
}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"id": "1", "prompt": "q", **TALK, "source": "mine"}, "trl"),
        ({"id": "1", "prompt": "q", **TALK, "source": "ai2-adapt-dev/x"}, "tulu3"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "image": "a.png", "is_tie": False}, "trl"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_reason": "c"}, "trl"),  # no picture
        ({"prompt": "q", "completions": ["a", "b"], "image": "a.png"}, None),
        ({"instruction": "q", "completions": ["a", "b"]}, None),
        ({"prompt": "q", "response_0": "a", "response_1": "b"}, None),
        ({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0}, "pku_saferlhf"),
        ({"prompt": "q", "answers": [{"answer": "a", "rank": 1}]}, None),
        ({"question": "q", "image": "a.png", "chosen": "a", "rejected": "b", "image_name": "a.png"}, None),
        ({"question": "q", "image": "a.png", "chosen": "a", "rejected": "b", "class1": "x"}, None),
    ],
)
def test_rows_of_ones_own_are_not_taken_for_a_public_set(
    tmp_path: Path, row: dict[str, Any], name: str | None
) -> None:
    if name is not None:
        assert known(tmp_path, row) == name
        return
    with pytest.raises(UserError, match="of no known format"):
        known(tmp_path, row)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        (
            {"question": "q", "answer": "a", "image": "a.png"},
            "If answer is an answer to imitate: --from columns --set prompt=question --set response=answer "
            "--set image=image; if it is the right answer, to judge others by: --from columns --set prompt=question "
            "--set reference=answer --set image=image. Name one",
        ),
        (
            {"query": "q", "response": "a", "note": None},
            "If response is an answer to imitate: --from columns --set prompt=query --set response=response; if",
        ),
        (
            {"question": "q", "img_path": "a.png", "chosen": "a", "rejected": "b"},
            "If they are pairs: --from columns --set prompt=question --set chosen=chosen --set rejected=rejected "
            "--set image=img_path. Name one",
        ),
        (
            {"Question": "q", "Answer": "a"},
            "If Answer is an answer to imitate: --from columns --set prompt=Question --set response=Answer; if",
        ),
        (
            {"question": "q", "answers": ["a", "b"], "image": "a.png"},
            "If answers is the right answer, to judge others by: --from columns --set prompt=question "
            "--set reference=answers --set image=image. Name one",
        ),
        ({"a": 1}, "Formats that fit: none. Name one"),
    ],
)
def test_rows_of_no_format_are_told_how_to_name_their_fields(
    tmp_path: Path, row: dict[str, Any], hint: str
) -> None:
    with pytest.raises(UserError) as error:
        known(tmp_path, row)
    assert hint in str(error.value)


def test_a_specific_format_wins_where_half_the_rows_fit_it(found: Callable[[list[Any]], Recognised]) -> None:
    assert found([fields("abc")] * 2 + [fields("ab")] * 2).name == "two"
    assert found([fields("abc")] * 2 + [fields("ab")] * 3).name == "one"


def test_null_is_no_field(found: Callable[[list[Any]], Recognised]) -> None:
    assert found([{"a": 1, "b": 1, "c": None}] * 3) == Recognised("one", "3 of the first 3 rows: has a, b")
