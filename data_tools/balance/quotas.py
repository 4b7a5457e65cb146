"""Shares of modality and objective in the training preferences, reached by leaving records out, never by
repeating.

Records are dropped one unit at a time, from where dropping brings the shares closest to the quotas; a flip
pair is one unit, so its halves stay together. Which records of a stratum go is decided by a hash of the seed
and the record's id, so the result doesn't depend on the order of the input.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from pydantic import Field, field_validator, model_validator

from data_tools.config import Config
from data_tools.errors import UserError
from data_tools.schema import Modality, PreferenceRecord

TOLERANCE = 0.01  # a share may miss its quota by so much, or by the two records that can't be split


class Balance(Config):
    """Quotas on the preference records of the train split; what isn't named has no quota."""

    modality: dict[Modality, float] = Field(
        default={}, description="The share of records by modality, such as {text: 0.3, image-text: 0.7}."
    )
    objectives: dict[str, float] = Field(
        default={}, description="The share of comparisons by objective; a ranking counts as one."
    )
    total: int | None = Field(
        default=None, ge=1, description="Keep so many records; null keeps all the quotas allow."
    )

    @field_validator("modality", "objectives")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        for name, share in value.items():
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {name} must lie between 0 and 1")
        if sum(value.values()) > 1 + 1e-6:
            raise ValueError(f"the shares sum to {sum(value.values()):g}, more than 1")
        return value

    @model_validator(mode="after")
    def _both(self) -> Balance:
        if len(self.modality) == 2 and abs(sum(self.modality.values()) - 1) > 1e-6:
            raise ValueError(
                f"the shares of both modalities sum to {sum(self.modality.values()):g}, not to 1"
            )
        return self


@dataclass
class _Cell:
    """Units that count alike: from one source, of one modality, with the same judgements."""

    name: str
    size: int
    modality: Counter[str]
    objectives: Counter[str]
    units: list[list[PreferenceRecord]]
    kept: int = 0


class _Tally:
    """What is kept so far: records by modality and comparisons by objective."""

    def __init__(self, cells: Sequence[_Cell]) -> None:
        self.records: Counter[str] = Counter()
        self.comparisons: Counter[str] = Counter()
        for cell in cells:
            self.add(cell, cell.kept)

    def add(self, cell: _Cell, units: int) -> None:
        """Adds (or takes away) units of a cell."""
        for counts, of_unit in ((self.records, cell.modality), (self.comparisons, cell.objectives)):
            for name, number in of_unit.items():
                counts[name] += units * number

    def misses(self, balance: Balance) -> dict[str, tuple[float, float, int]]:
        """For every quota: what it asks for, the share there is, and the number it is a share of."""
        found = {}
        for family, counts, quotas in (
            ("modality", self.records, balance.modality),
            ("objectives", self.comparisons, balance.objectives),
        ):
            total = sum(counts.values())
            for name, quota in quotas.items():
                found[f"balance.{family}.{name}"] = (quota, counts[name] / total if total else 0.0, total)
        return found

    def distance(self, balance: Balance) -> float:
        """The sum of the squared misses."""
        return sum((quota - share) ** 2 for quota, share, _ in self.misses(balance).values())

    def pull(self, cell: _Cell, balance: Balance) -> float:
        """How fast the distance changes as units of the cell are dropped, for each record dropped.

        A rate and not a difference: the difference per record is greater for small units, so that single records
        would all go before the first flip pair.
        """
        rate = 0.0
        misses = self.misses(balance)
        for family, of_unit in (("modality", cell.modality), ("objectives", cell.objectives)):
            for name in getattr(balance, family):
                quota, share, total = misses[f"balance.{family}.{name}"]
                if total:
                    rate -= 2 * (share - quota) * (of_unit[name] - share * sum(of_unit.values())) / total
        return rate / cell.size


def apply_quotas(
    records: Sequence[PreferenceRecord], balance: Balance, seed: int
) -> tuple[list[PreferenceRecord], dict[str, int]]:
    """The records that stay, in their order, and how many were dropped by source/modality/objectives.

    Raises:
        UserError: a quota or the total can't be met; it names the quota and what is short.
    """
    cells = _cells(records, seed)
    _refuse_absent(balance, records)
    for cell in cells:
        barred = any(balance.modality.get(name) == 0 for name in cell.modality)  # type: ignore[call-overload]
        barred = barred or any(balance.objectives.get(name) == 0 for name in cell.objectives)
        cell.kept = 0 if barred else len(cell.units)
    _approach(cells, balance)
    _refuse_missed(cells, balance)
    if balance.total is not None:
        _thin(cells, balance, balance.total)
    stay = {id(record) for cell in cells for unit in cell.units[: cell.kept] for record in unit}
    dropped: Counter[str] = Counter()
    for cell in cells:
        if cell.kept < len(cell.units):
            dropped[cell.name] += (len(cell.units) - cell.kept) * cell.size
    return [record for record in records if id(record) in stay], dict(sorted(dropped.items()))


def _cells(records: Sequence[PreferenceRecord], seed: int) -> list[_Cell]:
    units: dict[tuple[str, str], list[PreferenceRecord]] = {}
    for record in records:
        flip = record.provenance.get("flip")
        units.setdefault((record.source, f"flip {flip}" if flip is not None else record.id), []).append(
            record
        )

    def rank(key: tuple[str, str]) -> str:
        return hashlib.sha256(f"{seed}/{key[0]}/{key[1]}".encode()).hexdigest()

    cells: dict[tuple[object, ...], _Cell] = {}
    for key in sorted(units, key=rank):
        unit = units[key]
        modality = Counter(record.modality for record in unit)
        objectives = Counter(name for record in unit for name in _compared(record))
        look = (key[0], tuple(sorted(modality.items())), tuple(sorted(objectives.items())))
        if look not in cells:
            name = "/".join((key[0], "+".join(sorted(modality)), "+".join(sorted(objectives)) or "ratings"))
            cells[look] = _Cell(name, len(unit), Counter(modality), objectives, [])
        cells[look].units.append(unit)
    return [cells[look] for look in sorted(cells, key=repr)]


def _compared(record: PreferenceRecord) -> Iterator[str]:
    """The objective of each comparison and ranking."""
    for judgement in (*record.comparisons, *record.rankings):
        yield judgement.objective


def _refuse_absent(balance: Balance, records: Sequence[PreferenceRecord]) -> None:
    modalities = {record.modality for record in records}
    objectives = {name for record in records for name in _compared(record)}
    for name, share in balance.modality.items():
        if share > 0 and name not in modalities:
            raise UserError(
                f"balance.modality.{name}: asks for {share:g}, but no training preference is {name}"
            )
    for objective, share in balance.objectives.items():
        if share > 0 and objective not in objectives:
            known = ", ".join(sorted(objectives)) or "none"
            raise UserError(
                f"balance.objectives.{objective}: asks for {share:g}, but no training preference judges it; "
                f"those compared: {known}"
            )


def _approach(cells: list[_Cell], balance: Balance) -> None:
    """Drops units until every share is within one record of its quota, or nothing brings them closer."""
    tally = _Tally(cells)
    while any(abs(quota - share) * total > 1 for quota, share, total in tally.misses(balance).values()):
        left = [cell for cell in cells if cell.kept]
        singles = [(cell,) for cell in left]
        # where two quotas pull against each other, only dropping from two cells at once may help
        move = _best_move(singles, tally, balance) or _best_move(combinations(left, 2), tally, balance)
        if move is None:
            return
        for cell in move:
            cell.kept -= 1
            tally.add(cell, -1)


def _best_move(
    moves: Iterable[tuple[_Cell, ...]], tally: _Tally, balance: Balance
) -> tuple[_Cell, ...] | None:
    """Of the moves that near the quotas the one that does so fastest for each record it drops; None where none does."""
    now = tally.distance(balance)
    best: tuple[float, float, tuple[_Cell, ...]] | None = None
    for move in moves:
        for cell in move:
            tally.add(cell, -1)
        gain = tally.distance(balance) - now
        for cell in move:
            tally.add(cell, 1)
        records = sum(cell.size for cell in move)
        # rounded, so that moves which pull the same way tie, and the cell of which most is left is taken
        pull = round(sum(tally.pull(cell, balance) * cell.size for cell in move) / records, 15)
        left = -min(cell.kept / len(cell.units) for cell in move)
        if gain < 0 and (best is None or (pull, left) < best[:2]):
            best = (pull, left, move)
    return best[2] if best else None


def _refuse_missed(cells: list[_Cell], balance: Balance) -> None:
    tally = _Tally(cells)
    for path, (quota, share, total) in tally.misses(balance).items():
        if abs(quota - share) > max(TOLERANCE, 2 / total if total else 0.0):
            what = "records" if path.startswith("balance.modality") else "comparisons"
            short = path.rpartition(".")[2] if share < quota else f"everything but {path.rpartition('.')[2]}"
            raise UserError(
                f"{path}: asks for {quota:g} of the {what}, but at best {share:.3f} of {total} can be had "
                f"together with the other quotas; short: {short}"
            )


def _thin(cells: list[_Cell], balance: Balance, total: int) -> None:
    """Leaves `total` records (one fewer where only flip pairs are left), thinning all cells alike."""
    count = sum(cell.kept * cell.size for cell in cells)
    if count < total:
        raise UserError(
            f"balance.total: asks for {total} records, but {count} are left under the quotas; short: "
            + (_short(cells, balance, total) or "records of every kind")
        )
    wanted = {index: cell.kept * total / count for index, cell in enumerate(cells)}
    for index, cell in enumerate(cells):
        cell.kept = int(wanted[index])
    rest = total - sum(cell.kept * cell.size for cell in cells)
    for index in sorted(wanted, key=lambda i: (int(wanted[i]) - wanted[i], i)):
        if wanted[index] > cells[index].kept and cells[index].size <= rest:
            cells[index].kept += 1
            rest -= cells[index].size


def _short(cells: list[_Cell], balance: Balance, total: int) -> str:
    """The quotas for which there are too few records or comparisons to reach `total`."""
    count = sum(cell.kept * cell.size for cell in cells)
    kept = _Tally(cells)
    a_record = sum(kept.comparisons.values()) / count if count else 1.0
    everything: Counter[str] = Counter()
    for cell in cells:
        for of_unit in (cell.modality, cell.objectives):
            everything.update({name: number * len(cell.units) for name, number in of_unit.items()})
    needs: dict[str, float] = {name: share * total for name, share in balance.modality.items()}
    needs.update({name: share * total * a_record for name, share in balance.objectives.items()})
    return ", ".join(
        f"{name} ({everything[name]} of {round(need)})"
        for name, need in needs.items()
        if everything[name] < round(need)
    )
