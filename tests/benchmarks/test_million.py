"""The benchmark of a million records: what it makes, a run at a tiny size, and its sums."""

from __future__ import annotations

import sys
from pathlib import Path

import million


def test_a_build_of_what_it_makes_leaves_records_out_and_is_opened(tmp_path: Path) -> None:
    """Of 60 pairs, half of them text, all 30 with a picture stay, and so many others that these are 60 % of training;
    the test split stays as it is."""
    million.make(tmp_path, 60)
    found = million.measure(tmp_path, 60, 1, ("build", "index"))
    assert sorted(found) == ["build", "index", "kept", "records"]
    assert 30 < found["kept"] < 60
    for step in ("build", "index"):
        assert found[step]["cpu"] > 0
        assert 20 < found[step]["megabytes"] < 1000


def test_processor_time_and_memory_are_those_of_the_step() -> None:
    idle = million.timed([sys.executable, "-S", "-c", "pass"])
    busy = million.timed(
        [sys.executable, "-S", "-c", "b = b'x' * 100_000_000; [i for i in range(2_000_000)]"]
    )
    assert busy[1] > idle[1]
    assert 90 < busy[2] - idle[2] < 250


def test_growth_is_the_last_size_by_the_first() -> None:
    first, last = (
        {step: {"wall": 100.0, "cpu": cpu} for step in ("build", "index", "audit")} for cpu in (50.0, 60.0)
    )
    assert million.growth(first, last)["audit"] == {"wall": 1.0, "cpu": 1.2}
