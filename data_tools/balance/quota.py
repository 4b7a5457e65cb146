"""A config's quotas over given cells: what counts for each, what it is a share of, and what is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from data_tools.balance.cells import Cell
from data_tools.balance.config import Balance, Joint
from data_tools.balance.weights import floors_by_source
from data_tools.errors import UserError

if TYPE_CHECKING:
    import numpy as np

Sense = Literal["=", ">=", "<="]
What = Literal["records", "comparisons"]


@dataclass(frozen=True)
class Quota:
    """One bound on a share: `path` is its key in the config, `kind` what it is about, `value` the share asked for.

    `part` and `whole` are, for each cell, what a unit adds to the count and to the number it is a share of.
    """

    path: str
    kind: str
    sense: Sense
    value: float
    what: What
    part: np.ndarray
    whole: np.ndarray

    def share(self, drawn: np.ndarray) -> float:
        """The share where `drawn` units of each cell are drawn; 0 where nothing is."""
        whole = float(self.whole @ drawn)
        return float(self.part @ drawn) / whole if whole else 0.0

    def miss(self, share: float) -> float:
        """By how much a share is off: above zero if it is too great, below if too small, 0 where it will do."""
        off = share - self.value
        if (self.sense == ">=" and off > 0) or (self.sense == "<=" and off < 0):
            return 0.0
        return off

    def asked(self, value: float) -> Quota:
        """The same with another share."""
        return replace(self, value=value)


def quotas_of(cells: Sequence[Cell], balance: Balance) -> list[Quota]:
    """The quotas of a config, in its order; a joint row with two bounds is two.

    Raises:
        UserError: a quota asks for something that no unit has.
    """
    _refuse_absent(cells, balance)
    out = []
    for path, row in _rows(balance):
        bounds: tuple[tuple[Sense, float | None, str], ...] = (
            ("=", row.share, ""),
            (">=", row.at_least, ".at_least"),
            ("<=", row.at_most, ".at_most"),
        )
        for sense, value, key in bounds:
            if value is not None:
                out.append(_quota(cells, path + key, row, sense, value))
    records: dict[str, int] = {}
    for cell in cells:
        records[cell.source] = records.get(cell.source, 0) + cell.records
    if balance.strategy != "proportion":  # there, the weights are raised to the floors
        out += [
            _quota(cells, f"balance.floor.{source}", Joint(source=source, at_least=floor), ">=", floor)
            for source, floor in floors_by_source(balance, records).items()
        ]
    return out


def source_quotas(cells: Sequence[Cell], weights: Mapping[str, float]) -> list[Quota]:
    """The sources' weights as quotas."""
    return [
        _quota(cells, f"balance.weights.{source}", Joint(source=source, share=weight), "=", weight)
        for source, weight in weights.items()
    ]


def _rows(balance: Balance) -> list[tuple[str, Joint]]:
    """All quotas, those on one dimension too, as rows with their paths."""
    rows = [
        (f"balance.modality.{name}", Joint(modality=name, share=x)) for name, x in balance.modality.items()
    ]
    rows += [
        (f"balance.objectives.{name}", Joint(objective=name, share=x))
        for name, x in balance.objectives.items()
    ]
    rows += [(f"balance.sources.{name}", Joint(source=name, share=x)) for name, x in balance.sources.items()]
    rows += [(f"balance.labels.{name}", Joint(label=name, share=x)) for name, x in balance.labels.items()]
    return rows + [(f"balance.joint.{index}", row) for index, row in enumerate(balance.joint)]


def _quota(cells: Sequence[Cell], path: str, row: Joint, sense: Sense, value: float) -> Quota:
    import numpy as np

    what: What = "records" if row.objective is None else "comparisons"
    whole = [float(cell.size if what == "records" else cell.comparisons) for cell in cells]
    return Quota(
        path=path,
        kind="/".join(name for _, name in row.kinds),
        sense=sense,
        value=value,
        what=what,
        part=np.array([_counted(cell, row) for cell in cells], dtype=float),
        whole=np.array(whole, dtype=float),
    )


def _counted(cell: Cell, row: Joint) -> float:
    """How many records, or comparisons where an objective is named, of a unit count.

    Where an objective and a label type are named, these are the objective's comparisons in records that carry the
    label: of a unit whose records differ in their labels, a part.
    """
    if row.modality not in (None, cell.modality) or row.source not in (None, cell.source):
        return 0.0
    count = float(cell.size if row.objective is None else dict(cell.objectives).get(row.objective, 0))
    return count if row.label is None else count * dict(cell.labels).get(row.label, 0) / cell.size


def _refuse_absent(cells: Sequence[Cell], balance: Balance) -> None:
    there = [cell for cell in cells if cell.units]
    known: dict[str, set[str]] = {
        "modality": {cell.modality for cell in there},
        "objective": {name for cell in there for name, _ in cell.objectives},
        "source": {cell.source for cell in there},
        "label": {label for cell in there for label, _ in cell.labels},
    }
    tell: dict[str, Callable[[str], str]] = {
        "modality": lambda name: f"no training preference is {name}",
        "objective": lambda name: (
            f"no training preference judges it; those compared: {_listed(known['objective'])}"
        ),
        "source": lambda name: (
            f"no training preference is from {name}; the sources: {_listed(known['source'])}"
        ),
        "label": lambda name: (
            f"no training preference carries one; those there are: {_listed(known['label'])}"
        ),
    }
    for path, row in _rows(balance):
        least = row.share if row.share is not None else row.at_least
        for dimension, name in row.kinds:
            if least and name not in known[dimension]:
                raise UserError(f"{path}: asks for {least:g}, but {tell[dimension](name)}")
        if least and not any(_counted(cell, row) for cell in there):
            kind = " ".join(name for _, name in row.kinds)
            raise UserError(f"{path}: asks for {least:g}, but no training preference is all of: {kind}")
    named = {
        "weights": set(balance.weights),
        "floor": set(balance.floor) if isinstance(balance.floor, dict) else set(),
    }
    for key, sources in named.items():
        for name in sorted(sources - known["source"]):
            raise UserError(f"balance.{key}.{name}: {tell['source'](name)}")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
