"""The benchmark of the mixture: what it reads, and its ratios from rounds known by hand."""

from __future__ import annotations

import mixture


def test_the_mixture_that_is_read_holds_so_many_records() -> None:
    made = mixture.make(1000, 4)
    assert [stratum.rows for stratum in made.strata] == [500, 250, 125, 125]
    assert made.period == 1000


def test_every_size_is_read_at_both_ends() -> None:
    found = mixture.one_round([20, 40], strata=2, reads=5)
    assert {size: sorted(spent) for size, spent in found.items()} == {
        20: ["end", "made", "start"],
        40: ["end", "made", "start"],
    }


def test_ratios_are_medians_of_rounds_that_count() -> None:
    """The third round stands beside a slow machine."""
    rounds = [
        {10: {"made": 1.0, "start": 2.0, "end": 2.0}, 99: {"made": 1.0, "start": 4.0, "end": end}}
        for end in (4.0, 6.0, 400.0)
    ]
    line = mixture.summary(rounds, [100.0, 100.0, 100.0, 20.0])
    assert line["ratios"] == {
        "end / start": {"10": 1.0, "99": 1.25},
        "end / end of 10": {"10": 1.0, "99": 2.5},
    }
    assert line["microseconds"]["99"] == {"made": 1.0, "start": 4.0, "end": 5.0}
    assert (line["rounds"], line["of"]) == (2, 3)
