"""Shares of the sources that follow what a model gets right only by looking.

The signal of a source is the shortcut-failure coefficient of Li et al. 2025 ("The Devil Is in the Details: Tackling
Unimodal Spurious Correlations for Generalizable Multimodal Reward Models"), who weigh each pair by it, taken over a
source and with errors in place of losses:

    w = e_blind / (e_blind + e_seeing)

of the errors without the image and with it, on records that nothing was trained on. It is 1/2 where the image changes
nothing, as in text; above where the text fails and looking helps; below where looking hurts. The reason is theirs:
what a text-only reader gets right teaches the shortcut.

From signals to shares: share ~ planned share x exp(w / temperature), so equal signals ask for the plan, within a floor,
a cap on repeats (UniMax: Chung et al. 2023; repeats beyond about four teach little: Muennighoff et al. 2023, "Scaling
Data-Constrained Language Models") and a bound on the change a step. Shares stay as they are where the signals don't
differ, and those of a source that has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import Field

from data_tools.config import Config

SPREAD = 1e-9  # signals that differ by less are equal
FINE = 1000  # epochs that the draws of changed shares are counted in
DIGITS = 9  # of a share; what platforms' exp differ in lies behind them


class AdaptiveRule(Config):
    """How far, and how fast, shares of sources follow their signals."""

    temperature: float = Field(
        0.25,
        gt=0,
        description="of the signals, which lie between 0 and 1: two sources whose signals differ by so much are drawn "
        "toward e times the ratio that is planned",
    )
    floor: float = Field(
        0.25, ge=0, le=1, description="what a source keeps at least, as a part of its planned share"
    )
    cap: float = Field(
        4.0,
        ge=1,
        description="how often an epoch shows each record of a source at most, on the average; a source for which more "
        "is planned keeps that",
    )
    step: float = Field(
        0.25, gt=0, description="a share becomes at most 1 + step times as large at a change, or as small"
    )
    least: int = Field(
        20, ge=1, description="comparisons that a source's signal needs; with fewer its share stays as it is"
    )


class Planned(NamedTuple):
    """A stratum as the data set plans it: its source, its records, and its draws an epoch, of `width` records each."""

    source: str
    records: int
    draws: int
    width: int = 1


@dataclass(frozen=True)
class Measured:
    """Of held-out comparisons of a source: their number, and how many are right with the image and without. For a
    comparison of a text-only record both are the same."""

    comparisons: int
    seeing: int
    blind: int

    def signal(self) -> float:
        """w, from shares of wrong ones with one more right and one more wrong (Laplace), so that it is never 0 / 0."""
        seeing, blind = (self.comparisons - right + 1 for right in (self.seeing, self.blind))
        return blind / (blind + seeing)


def planned_shares(strata: Mapping[str, Planned]) -> dict[str, float]:
    """Each source's share of the records of an epoch, by its plan."""
    records: dict[str, int] = {}
    for own in strata.values():
        records[own.source] = records.get(own.source, 0) + own.draws * own.width
    total = sum(records.values())
    return {source: count / total for source, count in sorted(records.items())}


def adapted(
    shares: Mapping[str, float],
    strata: Mapping[str, Planned],
    measured: Mapping[str, Measured],
    rule: AdaptiveRule,
) -> dict[str, float]:
    """The shares of the next segment, from those of the last one and what was measured of some sources."""
    signals = {
        name: own.signal()
        for name, own in measured.items()
        if own.comparisons >= rule.least and shares.get(name)
    }
    return follow(shares, strata, signals, rule)


def follow(
    shares: Mapping[str, float],
    strata: Mapping[str, Planned],
    signals: Mapping[str, float],
    rule: AdaptiveRule,
) -> dict[str, float]:
    """As `adapted`, from signals: those sources that have a finite one share anew what they have together."""
    told = {name: value for name, value in sorted(signals.items()) if math.isfinite(value)}
    if len(told) < 2 or max(told.values()) - min(told.values()) < SPREAD:
        return dict(shares)
    plan, most = planned_shares(strata), _most(strata, rule)
    # against the largest, so that no exp overflows at a small temperature; what vanishes is left to the floor
    top = max(told.values())
    asked = {
        name: plan[name] * max(math.exp((value - top) / rule.temperature), 1e-300)
        for name, value in told.items()
    }
    bounds = {}
    for name in told:
        now = shares[name]
        low = max(rule.floor * plan[name], now / (1 + rule.step))
        high = min(most[name], now * (1 + rule.step))
        bounds[name] = min(low, now), max(high, now)  # rounding aside, it lies between them
    found = _scaled(asked, bounds, sum(shares[name] for name in told))
    return {**shares, **{name: round(share, DIGITS) for name, share in found.items()}}


def draws_of(shares: Mapping[str, float], strata: Mapping[str, Planned]) -> dict[str, int]:
    """How often each stratum is drawn, beside the others, for some shares of the sources; strata of one source stay in
    the proportions of the plan, and none that is planned vanishes.

    Where the shares are the plan's, it is the plan's draws an epoch; else of `FINE` epochs, so that the smallest strata
    follow the shares too, which whole draws of one epoch would not let them.
    """
    plan = planned_shares(strata)
    times = 1 if all(abs(shares[name] - share) < SPREAD for name, share in plan.items()) else FINE
    return {
        name: max(1, round(times * own.draws * shares[own.source] / plan[own.source])) if own.draws else 0
        for name, own in strata.items()
    }


def _most(strata: Mapping[str, Planned], rule: AdaptiveRule) -> dict[str, float]:
    """The largest share of each source under the cap."""
    total = sum(own.draws * own.width for own in strata.values())
    records: dict[str, int] = {}
    for own in strata.values():
        records[own.source] = records.get(own.source, 0) + own.records
    return {
        source: max(rule.cap * records[source] / total, planned)
        for source, planned in planned_shares(strata).items()
    }


def _scaled(
    asked: Mapping[str, float], bounds: Mapping[str, tuple[float, float]], total: float
) -> dict[str, float]:
    """c x asked, each held within its bounds, with the c at which they sum to `total`, by bisection: nearest to what
    is asked, in relative entropy. The bounds let `total` in."""

    def at(c: float) -> dict[str, float]:
        return {name: min(max(c * asked[name], low), high) for name, (low, high) in bounds.items()}

    low = min(math.log(low / asked[name]) if low else -700.0 for name, (low, _) in bounds.items())
    high = max(math.log(high / asked[name]) for name, (_, high) in bounds.items())
    for _ in range(100):
        middle = (low + high) / 2
        if sum(at(math.exp(min(middle, 700.0))).values()) < total:
            low = middle
        else:
            high = middle
    return at(math.exp(min(high, 700.0)))
