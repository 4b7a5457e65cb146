"""The mixture is an index: what stands where is checked against lists that are made here, and against literals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.balance.mixture import Draw, Label, Labels, Layout, Mixture, Segment, Stratum
from data_tools.balance.permutation import permuted, round_keys

STRATA = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 14)), min_size=1, max_size=5
).filter(lambda sizes: any(draws for _, draws in sizes))  # fmt: skip


def mixture_of(sizes: list[tuple[int, int]], seed: int = 0) -> Mixture:
    return Mixture([Stratum(f"s{i}", rows, draws) for i, (rows, draws) in enumerate(sizes)], seed)


def test_permutations_are_these() -> None:
    """Literals, from another implementation (numpy's uint64): no platform, Python or release may give others."""
    assert round_keys("key")[:2] == (9454738243573995053, 16305551264035841859)
    assert [permuted(i, 10, round_keys("0/a/0")) for i in range(10)] == [7, 4, 1, 3, 5, 9, 8, 6, 0, 2]
    assert [permuted(i, 10, round_keys("0/a/1")) for i in range(10)] == [2, 3, 8, 0, 7, 6, 5, 9, 1, 4]
    big = 10**15
    keys = round_keys("0/a/0")
    assert permuted(0, big, keys) == 529395767265661
    assert permuted(1, big, keys) == 717197070871637
    assert permuted(big - 1, big, keys) == 167179803744505


@given(st.integers(1, 300), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_permutation_holds_every_place_once(size: int, key: int) -> None:
    keys = round_keys(str(key))
    assert sorted(permuted(place, size, keys) for place in range(size)) == list(range(size))


def test_permutations_of_few_are_all_as_likely() -> None:
    """Of 2,400 keys each of the 24 permutations of four gets 100, with a deviation of 10."""
    found = Counter(
        tuple(permuted(place, 4, round_keys(f"k{key}")) for place in range(4)) for key in range(2400)
    )
    assert len(found) == 24
    assert 60 < min(found.values()) <= max(found.values()) < 140


def test_an_order_is_this() -> None:
    """A literal, from sorted fractions and that other implementation; in processes of other hash seeds."""
    expected = [[0, 0, 0], [0, 2, 0], [1, 0, 0], [0, 1, 0], [0, 3, 0], [0, 2, 1], [0, 0, 200_000_000]]
    code = "from data_tools.balance.mixture import Mixture, Stratum;"
    code += "m = Mixture([Stratum('a', 4, 4), Stratum('b', 2, 1)], 0);"
    code += "print([list(m.at(i)) for i in [*range(6), 10**9]])"
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert json.loads(out.stdout) == expected


@given(STRATA, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_strata_are_merged_by_rank(sizes: list[tuple[int, int]], seed: int) -> None:
    """Beside the merge of three epochs as the docstring has it, in fractions, by sorting."""
    made = mixture_of(sizes, seed)
    ranked = sorted(
        ((k + Fraction(shift, 2**32)) / draws, number)
        for number, ((_, draws), shift) in enumerate(zip(sizes, made._shifts, strict=True))
        for k in range(3 * draws)
    )
    expected = [number for _, number in ranked]
    assert [made.at(position).stratum for position in range(len(ranked))] == expected
    for position in range(len(ranked) + 1):
        before = Counter(expected[:position])
        assert made.counts(position) == [before[number] for number in range(len(sizes))]


@given(STRATA, st.integers(0, 5), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_window_holds_the_strata_in_their_proportions(
    sizes: list[tuple[int, int]], seed: int, length: int
) -> None:
    made = mixture_of(sizes, seed)
    drawn = [made.at(position).stratum for position in range(100)]
    for start in range(0, 100 - length, 3):
        window = Counter(drawn[start : start + length])
        for number, (_, draws) in enumerate(sizes):
            share = draws / made.period
            assert abs(window[number] - length * share) <= 1 + len(sizes) * share + 1e-9


@given(STRATA, st.integers(0, 5), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_repeats_are_exact(sizes: list[tuple[int, int]], seed: int, length: int) -> None:
    """After K draws of n rows each was shown floor or ceil of K / n times, and `showing` says so."""
    made = mixture_of(sizes, seed)
    seen: Counter[tuple[int, int]] = Counter()
    for position in range(length):
        stratum, row, showing = made.at(position)
        assert showing == seen[stratum, row]
        seen[stratum, row] += 1
    for number, (rows, _) in enumerate(sizes):
        shown = [seen[number, row] for row in range(rows)]
        assert max(shown) - min(shown) <= 1
    epoch = made.counts(made.period)
    assert epoch == [draws for _, draws in sizes]


@given(
    STRATA,
    st.integers(0, 5),
    st.integers(0, 90),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_stopped_and_gone_on_with_another_number_of_workers(
    sizes: list[tuple[int, int]], seed: int, stop: int, first: int, second: int, before: int, after: int
) -> None:
    """`first` workers of each of `before` processes take their positions by stride up to a random point, then `second`
    of `after` go on: each record as often as planned, in the order of one worker."""
    epochs = 2
    whole = mixture_of(sizes, seed)
    end = epochs * whole.period
    stop = min(stop, end)
    found: dict[int, Draw] = {}
    for begin, until, workers in ((0, stop, first * before), (stop, end, second * after)):
        for worker in range(workers):
            own = mixture_of(sizes, seed)  # each makes its own: they share nothing
            for position in range(begin + worker, until, workers):
                assert position not in found
                found[position] = own.at(position)
    assert [found[position] for position in range(end)] == [whole.at(position) for position in range(end)]
    drawn = Counter((draw.stratum, draw.row) for draw in found.values())
    for number, (rows, draws) in enumerate(sizes):
        shown = [drawn[number, row] for row in range(rows)]
        assert sum(shown) == epochs * draws
        assert {*shown} <= {epochs * draws // rows, -(-epochs * draws // rows)}


def test_three_workers_then_five() -> None:
    """Ten epochs of a thousand records, one source of which comes twice: 3 workers, then 5, from position 4,321 on."""
    sizes = [(600, 600), (300, 300), (100, 200)]
    made = mixture_of(sizes)
    positions = [*(p for w in range(3) for p in range(w, 4321, 3))]
    positions += [p for w in range(5) for p in range(4321 + w, 11000, 5)]
    drawn = Counter((draw.stratum, draw.row) for draw in map(made.at, positions))
    assert Counter(drawn.values()) == {10: 900, 20: 100}


@given(STRATA, st.data())
@settings(max_examples=60, deadline=None)
def test_segments_change_nothing_before_them_and_keep_repeats_exact(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    made, start = mixture_of(sizes), 0
    order = [made.at(position) for position in range(150)]
    for _ in range(3):
        start = data.draw(st.integers(start, 100))
        draws = data.draw(st.lists(st.integers(0, 9), min_size=len(sizes), max_size=len(sizes)).filter(any))
        made.extend(Segment(start, {f"s{number}": own for number, own in enumerate(draws)}))
        changed = [made.at(position) for position in range(150)]
        assert changed[:start] == order[:start]
        epoch = Counter(draw.stratum for draw in changed[start : start + sum(draws)])
        assert [epoch[number] for number in range(len(sizes))] == draws
        order = changed
    seen: Counter[tuple[int, int]] = Counter()
    for stratum, row, showing in order:
        assert showing == seen[stratum, row]
        seen[stratum, row] += 1


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="a mixture without draws"):
        mixture_of([(3, 0)])
    with pytest.raises(ValueError, match="nothing to draw of empty"):
        Mixture([Stratum("empty", 0, 1)], 0)
    with pytest.raises(ValueError, match="stands twice"):
        Mixture([Stratum("a", 1, 1)] * 2, 0)
    made = mixture_of([(3, 3)])
    made.extend(Segment(5, {"s0": 2}))
    with pytest.raises(ValueError, match="segment at 4 behind one at 5"):
        made.extend(Segment(4, {"s0": 2}))
    with pytest.raises(ValueError, match="nothing to draw of other"):
        made.extend(Segment(6, {"other": 2}))
    with pytest.raises(IndexError, match="position -1"):
        made.at(-1)


def test_layout_tells_where_rows_are() -> None:
    """Two stretches of one label, with others between; strata by their names."""
    words, pictures = Label("b", "text"), Label("a", "image-text", 2.5)
    labels = Labels([words, words, pictures, words, pictures, pictures])
    assert len(labels) == 6
    assert list(labels) == [words, words, pictures, words, pictures, pictures]
    assert [labels[2], labels[-3], labels[4]] == [pictures, words, pictures]
    with pytest.raises(IndexError):
        labels[6]
    assert list(labels[1:4]) == [words, pictures, words]
    layout = Layout(labels)
    # 2.5 times three records, 7.5, is 8 draws
    assert layout.strata() == [Stratum("a/image-text/2.5", 3, 8), Stratum("b/text/1.0", 3, 3)]
    assert [layout.record(0, row) for row in range(3)] == [2, 4, 5]
    assert [layout.record(1, row) for row in range(3)] == [0, 1, 3]
    assert sorted(layout.each_once(0)) == list(range(6))
    assert list(layout.each_once(0)) != list(layout.each_once(1))
    assert list(Layout([]).each_once(0)) == []
    assert sorted(Layout([None, words, None, words]).each_once(0)) == [1, 3]
