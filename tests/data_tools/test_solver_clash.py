"""Quotas that clash end in a message that says so, whatever the solver underneath makes of them."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from data_tools.balance.cells import Cell
from data_tools.balance.clash import QuotasClash
from data_tools.balance.config import Balance
from data_tools.balance.solver import solve
from data_tools.errors import UserError

OBJECTIVES = ("help", "safety", "style")


def few_pictures(pictures: int = 19, texts: int = 2802) -> list[Cell]:
    return [Cell("a", "image-text", units=pictures), Cell("b", "text", units=texts)]


def asked(**changes: Any) -> Balance:
    return Balance.model_validate(changes)


def test_nineteen_pictures_beside_thousands_of_texts() -> None:
    """0.77 of 950 are 732 pictures, where there are 19; 19 / 0.77 are 24 records."""
    balance = asked(modality={"image-text": 0.77, "text": 0.23}, total=950)
    with pytest.raises(QuotasClash) as caught:
        solve(few_pictures(), balance)
    assert "asks for 950 records, but 24 are left under the quotas; short: image-text (19 of 732)" in str(
        caught.value
    )
    assert caught.value.nearest["balance.modality.image-text"] == pytest.approx(19 / 950, abs=1e-4)


@pytest.mark.parametrize("broken", ["first", "second", "both"])
def test_a_solver_that_gives_up_on_a_clash_is_not_believed(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what is infeasible one method of HiGHS may say so and the other end in an error of its own (status 4), or both
    may; where there is an optimum, the other one may still reach it."""
    from scipy import optimize

    real = optimize.linprog

    def linprog(cost: Any, method: str, **problem: Any) -> Any:
        found = real(cost, method=method, **problem)
        gives_up = broken == "both" or (broken == "first") == (method == "highs-ds")
        if found.status == 2 and gives_up:
            return SimpleNamespace(status=4, message="Solve error")
        return found

    monkeypatch.setattr(optimize, "linprog", linprog)
    balance = asked(modality={"image-text": 0.77, "text": 0.23}, total=950)
    with pytest.raises(QuotasClash, match=r"balance\.total: asks for 950 records, but 24 are left"):
        solve(few_pictures(), balance)
    assert solve(few_pictures(), asked(modality={"text": 0.9})).records == 190


def test_where_nothing_is_reached_the_clash_is_told_without_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scipy import optimize

    monkeypatch.setattr(optimize, "linprog", lambda *args, **more: SimpleNamespace(status=4, message="no"))
    with pytest.raises(QuotasClash) as caught:
        solve(few_pictures(), asked(modality={"image-text": 0.77, "text": 0.23}, total=950))
    assert "balance.modality" in str(caught.value)
    assert caught.value.nearest == {}


def random_problem(rng: random.Random) -> tuple[list[Cell], Balance]:
    """Two to four cells of very different sizes, and quotas that most often clash."""
    cells = {}
    for _ in range(rng.randint(2, 4)):
        judged = tuple(
            sorted((name, rng.randint(1, 3)) for name in rng.sample(OBJECTIVES, rng.randint(0, 2)))
        )
        cell = Cell(
            rng.choice("ab"),
            rng.choice(("text", "image-text")),
            judged,
            (),
            rng.randint(1, 2),
            int(10 ** rng.uniform(0.3, 4)),
        )
        cells[cell.source, cell.modality, cell.objectives, cell.size] = cell
    share = round(rng.uniform(0.05, 0.95), 2)
    changes: dict[str, Any] = {
        "strategy": rng.choice(("choose", "repeat")),
        "total": rng.randint(5, 5000),
        "modality": {"image-text": share, "text": round(1 - share, 2)},
    }
    if rng.random() < 0.4:
        changes["objectives"] = {rng.choice(OBJECTIVES): round(rng.uniform(0.05, 0.95), 2)}
    if rng.random() < 0.3:
        changes["joint"] = [{"source": rng.choice("ab"), "at_least": round(rng.uniform(0.05, 0.9), 2)}]
    return list(cells.values()), asked(**changes)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_random_quotas_are_met_or_clash(first: int) -> None:
    """Nothing but a plan or a message for the user."""
    for seed in range(first, first + 10):
        cells, balance = random_problem(random.Random(seed))
        try:
            solve(cells, balance)
        except UserError as error:
            assert "balance" in str(error)  # noqa: PT017 (both ends are right)
