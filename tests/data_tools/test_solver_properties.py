"""What holds for the balancer's plans whatever the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.balance.cells import Cell
from data_tools.balance.clash import QuotasClash
from data_tools.balance.config import Balance
from data_tools.balance.solution import Solution
from data_tools.balance.solver import solve
from data_tools.errors import UserError

OBJECTIVES = ("help", "safety", "style")

judged = st.dictionaries(st.sampled_from(OBJECTIVES), st.integers(1, 3), max_size=3)
cells_of_units = st.lists(
    st.builds(
        lambda source, modality, objectives, size, units: Cell(
            source, modality, tuple(sorted(objectives.items())), (), size, units
        ),
        st.sampled_from("ab"),
        st.sampled_from(["text", "image-text"]),
        judged,
        st.integers(1, 2),
        st.integers(20, 400),
    ),
    min_size=2,
    max_size=6,
    unique_by=lambda cell: (cell.source, cell.modality, cell.objectives, cell.size),
)


@st.composite
def problems_that_can_be_met(draw: st.DrawFn) -> tuple[list[Cell], Balance]:
    """Quotas read off a plan that was drawn first: so many draws of each unit, of 0.3 to 1 or of 1 to 4."""
    cells = draw(cells_of_units)
    repeat = draw(st.booleans())
    part = st.floats(1, 4) if repeat else st.floats(0.3, 1)
    units = [cell.units * draw(part) for cell in cells]
    records = [cell.size * number for cell, number in zip(cells, units, strict=True)]
    comparisons = dict.fromkeys(OBJECTIVES, 0.0)
    for cell, number in zip(cells, units, strict=True):
        for name, each in cell.objectives:
            comparisons[name] += each * number
    judged = sum(comparisons.values())
    text = sum(r for cell, r in zip(cells, records, strict=True) if cell.modality == "text")
    changes: dict[str, Any] = {"strategy": "repeat" if repeat else "choose"}
    if draw(st.booleans()):
        changes["modality"] = {"text": text / sum(records)}
    if judged and draw(st.booleans()):
        changes["objectives"] = {
            name: comparisons[name] / judged for name in draw(st.sets(st.sampled_from(OBJECTIVES)))
        }
    if draw(st.booleans()):
        share = sum(r for cell, r in zip(cells, records, strict=True) if cell.source == "a") / sum(records)
        bound = draw(st.sampled_from(["at_least", "at_most"]))
        if share:
            changes["joint"] = [{"source": "a", bound: share}]
    return cells, Balance.model_validate(changes)


def off(solution: Solution, balance: Balance) -> float:
    """By how many records or comparisons the worst quota is missed, counted from cells and what is drawn of them."""
    draws = [(draw.cell, draw.drawn) for draw in solution.draws]

    def records(**like: str) -> float:
        return sum(
            number * cell.size
            for cell, number in draws
            if all(getattr(cell, key) == value for key, value in like.items())
        )

    def compared(*names: str) -> float:
        return sum(number * each for cell, number in draws for name, each in cell.objectives if name in names)

    misses = [0.0]
    misses += [abs(records(modality=name) - share * records()) for name, share in balance.modality.items()]
    misses += [
        abs(compared(name) - share * compared(*OBJECTIVES)) for name, share in balance.objectives.items()
    ]
    for row in balance.joint:
        assert row.source == "a"
        if row.at_least is not None:
            misses.append(row.at_least * records() - records(source="a"))
        if row.at_most is not None:
            misses.append(records(source="a") - row.at_most * records())
    return max(misses)


@given(problems_that_can_be_met())
@settings(max_examples=40, deadline=None)
def test_quotas_that_can_be_met_are_met_within_a_unit(problem: tuple[list[Cell], Balance]) -> None:
    cells, balance = problem
    solution = solve(cells, balance)
    largest = max(max(cell.size, cell.comparisons) for cell in cells)
    assert off(solution, balance) <= largest
    for draw in solution.draws:
        if balance.strategy == "choose":
            assert 0 <= draw.drawn == draw.keep <= draw.cell.units
        else:
            assert draw.keep == draw.cell.units <= draw.drawn <= 4 * draw.cell.units
    # the order of the cells means nothing
    assert solve(cells[::-1], balance).draws[::-1] == solution.draws
    # ten times the data is ten times the plan, to rounding
    tenfold = solve([replace(cell, units=cell.units * 10) for cell in cells], balance)
    for one, ten in zip(solution.draws, tenfold.draws, strict=True):
        assert abs(ten.drawn - 10 * one.drawn) <= 11


@given(
    cells_of_units,
    st.floats(0.05, 0.95),
    st.dictionaries(st.sampled_from(OBJECTIVES), st.floats(0.05, 0.33), min_size=1),
    st.sampled_from(["choose", "repeat"]),
    st.none() | st.integers(200, 2000),
)
@settings(max_examples=25, deadline=None)
def test_a_clash_is_irreducible_and_what_it_names_can_be_met(
    cells: list[Cell], text: float, objectives: dict[str, float], strategy: Any, total: int | None
) -> None:
    balance = Balance(strategy=strategy, modality={"text": text}, objectives=objectives, total=total)
    clash = refusal(cells, balance)
    if not isinstance(clash, QuotasClash):
        assert clash is None or "no training preference" in str(clash) or "whole units" in str(clash)
        return
    assert not isinstance(refusal(cells, changed(balance, clash.nearest)), QuotasClash)
    row = balance.model_dump()
    kept = {
        "strategy": strategy,
        "modality": {
            name: x for name, x in row["modality"].items() if f"balance.modality.{name}" in clash.paths
        },
        "objectives": {
            name: x for name, x in row["objectives"].items() if f"balance.objectives.{name}" in clash.paths
        },
        "total": total if "balance.total" in clash.paths else None,
    }
    for path in clash.paths:
        _, family, *name = path.split(".")
        rest = {**kept, family: {n: x for n, x in kept[family].items() if n != name[0]} if name else None}
        assert not isinstance(refusal(cells, Balance.model_validate(rest)), QuotasClash)


def changed(balance: Balance, nearest: dict[str, float]) -> Balance:
    """The config with the values that a clash names."""
    row = balance.model_dump()
    for path, value in nearest.items():
        _, family, *name = path.split(".")
        if name:
            row[family][name[0]] = value
        else:
            row[family] = int(value)
    return Balance.model_validate(row)


def refusal(cells: list[Cell], balance: Balance) -> UserError | None:
    """Why there is no plan; None where there is one."""
    try:
        solve(cells, balance)
    except UserError as error:
        return error
    return None
