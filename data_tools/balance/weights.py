"""The sources' weights: as they are, evened out by a temperature, fixed, or as even as an epoch cap allows."""

from __future__ import annotations

from collections.abc import Mapping

from data_tools.balance.config import Balance
from data_tools.errors import UserError


def source_weights(balance: Balance, records: Mapping[str, int], total: int) -> dict[str, float] | None:
    """The share of each source that temperature, weights or UniMax give it, summing to 1; None where none is set.

    `records` counts them by source, `total` those an epoch shows.

    Raises:
        UserError: a source has no weight, or a weight no source.
    """
    if balance.unimax:
        return unimax(records, total, balance.most_epochs)
    if balance.weights:
        missing = sorted(set(records) - set(balance.weights))
        if missing:
            raise UserError(f"balance.weights: has no weight for the source {missing[0]}; give each one")
        return _normalised({source: balance.weights[source] for source in records})
    if balance.temperature is not None:
        most = max(records.values())  # so that no power overflows
        return _normalised(
            {source: (number / most) ** (1 / balance.temperature) for source, number in records.items()}
        )
    return None


def unimax(records: Mapping[str, int], total: float, max_epochs: float) -> dict[str, float]:
    """Shares as uniform as the cap allows: Chung et al. 2023, "UniMax", algorithm 1.

    From the smallest source on, each is given an equal part of what is left of `total`, or `max_epochs` times its
    records where these are fewer. The paper counts characters of languages; here it is records of sources.
    """
    given: dict[str, float] = {}
    budget = float(total)
    for done, source in enumerate(sorted(records, key=lambda name: (records[name], name))):
        part = budget / (len(records) - done)
        given[source] = min(part, max_epochs * records[source])
        budget -= given[source]
    return _normalised({source: given[source] for source in records})


def with_floors(weights: Mapping[str, float], floors: Mapping[str, float]) -> dict[str, float]:
    """The weights where those under their floor are raised to it, and the others lowered alike.

    Both by source, the weights summing to 1 and the floors to no more.
    """
    raised: set[str] = set()
    while True:
        rest = 1 - sum(floors[source] for source in raised)
        others = sum(weight for source, weight in weights.items() if source not in raised)
        out = {
            source: floors[source] if source in raised else weight * rest / others
            for source, weight in weights.items()
        }
        under = {source for source in out if out[source] < floors.get(source, 0.0) - 1e-12}
        if not under:
            return out
        raised |= under


def floors_by_source(balance: Balance, records: Mapping[str, int]) -> dict[str, float]:
    """The floor of each source that has one.

    Raises:
        UserError: the floors of all sources sum to more than 1.
    """
    if isinstance(balance.floor, dict):
        return {source: floor for source, floor in balance.floor.items() if floor > 0}
    if balance.floor * len(records) > 1 + 1e-9:
        raise UserError(
            f"balance.floor: {len(records)} sources can't each have {balance.floor:g} of the records; "
            f"at most {1 / len(records):.4g}"
        )
    return dict.fromkeys(records, balance.floor) if balance.floor > 0 else {}


def _normalised(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {source: weight / total for source, weight in weights.items()}
