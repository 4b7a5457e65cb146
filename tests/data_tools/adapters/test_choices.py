"""How the number of an answer is read, in every format alike."""

from __future__ import annotations

import pytest

from data_tools.adapters.base import RowError, take_choice


@pytest.mark.parametrize("value", [2, 2.0, "2", " 2\n"])
def test_numbers_and_texts_of_numbers_count(value: object) -> None:
    assert take_choice({"id": value}, "id") == 1


@pytest.mark.parametrize("value", [0, 0.0, "0"])
def test_some_formats_count_from_0(value: object) -> None:
    assert take_choice({"id": value}, "id", first=0) == 0


@pytest.mark.parametrize(
    "value", [None, True, False, 3, 0, 1.5, float("nan"), "one", "1.0", "\u00b9", [1], {}]
)
def test_nothing_else_does(value: object) -> None:
    with pytest.raises(RowError, match="id is neither 1 nor 2") as found:
        take_choice({"id": value}, "id")
    assert found.value.code == "no-preference"
