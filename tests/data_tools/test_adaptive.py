"""Shares that follow signals, within their bounds; and the file that they are replayed from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.balance.adaptive import (
    AdaptiveRule,
    Measured,
    Planned,
    adapted,
    draws_of,
    follow,
    planned_shares,
)
from data_tools.balance.mixture import Mixture, Segment, Stratum
from data_tools.balance.schedule import Entry, append, keep_before, read_schedule
from data_tools.errors import UserError

# 100, 60 and 40 records an epoch; those of `c` are 20, each shown twice
STRATA = {
    "a/x": Planned("a", 60, 60),
    "a/y": Planned("a", 40, 20, width=2),
    "b": Planned("b", 60, 60),
    "c": Planned("c", 20, 40),
}
SHARES = {"a": 0.5, "b": 0.3, "c": 0.2}
FREE = AdaptiveRule(temperature=0.5, floor=0.0, cap=100.0, step=100.0)


def test_the_signal_is_the_share_of_errors_that_the_text_leaves() -> None:
    # 4 + 1 wrong with the image, 19 + 1 without: 20 / 25
    assert Measured(40, seeing=36, blind=21).signal() == 0.8
    assert Measured(40, seeing=30, blind=30).signal() == 0.5
    # 20 + 1 wrong with the image, 6 + 1 without
    assert Measured(40, seeing=20, blind=34).signal() == 0.25
    assert Measured(0, 0, 0).signal() == 0.5


def test_shares_of_the_plan() -> None:
    assert planned_shares(STRATA) == SHARES
    assert draws_of(SHARES, STRATA) == {"a/x": 60, "a/y": 20, "b": 60, "c": 40}
    changed = {"a/x": 30_000, "a/y": 10_000, "b": 140_000, "c": 10_000}  # of a thousand epochs
    assert draws_of({"a": 0.25, "b": 0.7, "c": 0.05}, STRATA) == changed
    assert draws_of({"a": 1.0, "b": 0.0, "c": 0.0}, STRATA) == {"a/x": 120_000, "a/y": 40_000, "b": 1, "c": 1}


def test_many_small_strata_follow_the_shares_of_their_source() -> None:
    strata = {f"a/{n}": Planned("a", 1, 1) for n in range(50)} | {"b": Planned("b", 50, 50)}
    draws = draws_of({"a": 0.6, "b": 0.4}, strata)
    of_a = sum(number for name, number in draws.items() if name.startswith("a"))
    assert of_a / sum(draws.values()) == 0.6


def test_shares_are_planned_ones_times_the_exponential() -> None:
    """Signals ln 2 / 2 apart at a temperature of 1/2: twice and four times the plan, 0.5 : 0.6 : 0.8."""
    signals = {"a": 0.1, "b": 0.1 + math.log(2) / 2, "c": 0.1 + math.log(2)}
    found = follow(SHARES, STRATA, signals, FREE)
    assert found == pytest.approx({"a": 0.5 / 1.9, "b": 0.6 / 1.9, "c": 0.8 / 1.9}, abs=1e-8)
    # the plan is what counts, not where shares are now
    assert follow({"a": 0.1, "b": 0.1, "c": 0.8}, STRATA, signals, FREE) == pytest.approx(found, abs=1e-8)


def test_a_step_is_bounded() -> None:
    """`c` asks for 0.42 and `a` for 0.26; at most a quarter more, and no less than four fifths, leaves `b` the rest."""
    signals = {"a": 0.1, "b": 0.1 + math.log(2) / 2, "c": 0.1 + math.log(2)}
    rule = AdaptiveRule(temperature=0.5, floor=0.0, cap=100.0, step=0.25)
    assert follow(SHARES, STRATA, signals, rule) == pytest.approx({"a": 0.4, "b": 0.35, "c": 0.25}, abs=1e-8)


def test_floor_and_cap() -> None:
    signals = {"a": 0.0, "b": 0.0, "c": 1.0}
    # 20 records, each at most three times: 60 of 200. `a` and `b` share the rest as planned
    capped = follow(SHARES, STRATA, signals, AdaptiveRule(temperature=0.01, floor=0.0, cap=3.0, step=100.0))
    assert capped == pytest.approx({"a": 0.4375, "b": 0.2625, "c": 0.3}, abs=1e-8)
    # a cap below the plan leaves the plan
    same = follow(SHARES, STRATA, signals, AdaptiveRule(temperature=0.01, floor=0.0, cap=1.5, step=100.0))
    assert same == pytest.approx(SHARES, abs=1e-8)
    floored = follow(SHARES, STRATA, signals, AdaptiveRule(temperature=0.01, floor=0.5, cap=100, step=100.0))
    assert floored == pytest.approx({"a": 0.25, "b": 0.15, "c": 0.6}, abs=1e-8)


@pytest.mark.parametrize(
    "signals",
    [
        {},
        {"a": 0.7},
        {"a": 0.7, "b": 0.7, "c": 0.7},
        {"a": 0.7, "b": 0.7 + 1e-12},
        {"a": math.nan, "b": 0.7, "c": math.inf},
    ],
)
def test_without_a_difference_shares_stay(signals: dict[str, float]) -> None:
    now = {"a": 0.4, "b": 0.35, "c": 0.25}
    assert follow(now, STRATA, signals, FREE) == now


def test_a_source_of_which_too_little_is_known_keeps_its_share() -> None:
    measured = {
        "a": Measured(20, 10, 10),
        "b": Measured(20, 20, 10),
        "c": Measured(19, 19, 0),
        "gone": Measured(50, 1, 1),
    }
    found = adapted(SHARES, STRATA, measured, FREE)
    assert found["c"] == 0.2
    assert found["b"] > 0.3
    assert sum(found.values()) == pytest.approx(1)
    assert adapted(SHARES, STRATA, {"b": Measured(50, 50, 0)}, FREE) == SHARES


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 80)), min_size=2, max_size=6),
    st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=1, max_size=6),
    st.floats(0.001, 10),
    st.floats(0, 1),
    st.floats(1, 10),
    st.floats(0.001, 3),
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_told_shares_stay_within_bounds(
    sizes: list[tuple[int, int]],
    told: list[list[float]],
    temperature: float,
    floor: float,
    cap: float,
    step: float,
) -> None:
    strata = {f"s{i}": Planned(f"s{i}", records, draws) for i, (records, draws) in enumerate(sizes)}
    rule = AdaptiveRule(temperature=temperature, floor=floor, cap=cap, step=step)
    plan = planned_shares(strata)
    shares, total = plan, sum(draws for _, draws in sizes)
    for signals in told:
        before = shares
        shares = follow(shares, strata, dict(zip(strata, signals, strict=False)), rule)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        for name, share in shares.items():
            assert before[name] / (1 + step) - 1e-7 <= share <= before[name] * (1 + step) + 1e-7
            assert share >= floor * plan[name] - 1e-7
            assert share <= max(cap * strata[name].records / total, plan[name]) + 1e-7


ENTRIES = [
    Entry(start=0, draws={"a": 3, "b": 1}),
    Entry(start=10, draws={"a": 1, "b": 1}, told={"shares": {"a": 0.5}}),
    Entry(start=30, draws={"a": 1, "b": 3}),
]


def written(path: Path) -> Path:
    keep_before(path, 0)
    for entry in ENTRIES:
        append(path, entry)
    return path


def test_a_schedule_comes_back_and_is_cut_where_a_run_goes_on(tmp_path: Path) -> None:
    assert read_schedule(tmp_path / "none.jsonl") == []
    path = written(tmp_path / "run" / "mixture.jsonl")
    assert path.read_text().splitlines()[1] == (
        '{"start": 10, "draws": {"a": 1, "b": 1}, "told": {"shares": {"a": 0.5}}}'
    )
    assert read_schedule(path) == ENTRIES
    assert keep_before(path, 30) == ENTRIES[:2]
    assert read_schedule(path) == ENTRIES[:2]
    assert keep_before(path, 0) == []
    assert path.read_text() == ""


def test_a_schedule_that_was_cut_anywhere_is_a_beginning_of_it(tmp_path: Path) -> None:
    whole = written(tmp_path / "mixture.jsonl").read_bytes()
    for length in range(len(whole)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:length])
        assert keep_before(path, 100) == ENTRIES[: whole[:length].count(b"\n")]
        for entry in ENTRIES[len(read_schedule(path)) :]:
            append(path, entry)
        assert path.read_bytes() == whole


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "mixture.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{]\n" + lines[2])
    with pytest.raises(UserError, match=r"mixture\.jsonl, line 2: is damaged"):
        read_schedule(path)
    path.write_text(lines[1] + lines[0])
    with pytest.raises(UserError, match=r"mixture\.jsonl, line 2: begins before the line above it"):
        read_schedule(path)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5), st.integers(1, 5)), max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_schedule_replays_exactly(changes: list[tuple[int, int, int]]) -> None:
    """A mixture that is extended as it is drawn from, and one that is given all segments at once."""
    strata = [Stratum("a", 7, 3), Stratum("b", 4, 1)]
    live = Mixture(strata, 3)
    drawn, entries = [live.at(0)], []
    for step, a, b in changes:
        drawn += [live.at(position) for position in range(len(drawn), len(drawn) + step)]
        entries.append(Entry(start=len(drawn), draws={"a": a, "b": b}))
        live.extend(Segment(len(drawn), {"a": a, "b": b}))
    replayed = Mixture(strata, 3)
    for entry in [Entry.model_validate_json(entry.model_dump_json()) for entry in entries]:
        replayed.extend(entry.segment)
    assert [replayed.at(position) for position in range(len(drawn))] == drawn
