"""What the balancer is told of the data: how many units there are of each kind, and nothing of the records."""

from __future__ import annotations

from dataclasses import dataclass

from data_tools.labels import LabelType
from data_tools.schema import Modality


@dataclass(frozen=True)
class Cell:
    """Units that count alike: from one source, of one modality, with the same judgements.

    A unit stays or goes as a whole: one record, or the two of a flip pair. `units` is how many there are, `size` how
    many records each has. Of each unit, `objectives` counts the comparisons by objective (a ranking is one), and
    `labels` the records that carry a label of that type; both sorted, without zeros.
    """

    source: str
    modality: Modality
    objectives: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[LabelType, int], ...] = ()
    size: int = 1
    units: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.units < 0:
            raise ValueError(f"a cell of {self.units} units of {self.size} records")

    @property
    def records(self) -> int:
        """How many records all its units have."""
        return self.units * self.size

    @property
    def comparisons(self) -> int:
        """How many comparisons a unit has."""
        return sum(number for _, number in self.objectives)

    @property
    def name(self) -> str:
        """Source, modality and what is judged, such as `hh/text/helpfulness+safety`."""
        judged = [name for name, _ in self.objectives] or [label for label, _ in self.labels]
        return "/".join((self.source, self.modality, "+".join(judged) or "unjudged"))
