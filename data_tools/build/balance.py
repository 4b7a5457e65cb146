"""The quotas of a config, put to the records of an index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from data_tools.balance.quotas import Balance, apply_quotas
from data_tools.build.index import MODALITIES, Index
from data_tools.schema import Comparison, PreferenceRecord, Ranking


@dataclass(slots=True)
class _Counted:
    """What the quotas look at of a record."""

    place: int
    id: str
    source: str
    modality: str
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...]
    provenance: dict[str, Any] = field(default_factory=dict)


def balanced(
    index: Index, subject_N: np.ndarray, sources: list[str], balance: Balance, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Which of the N records go, of those that the mask `subject_N` leaves to the quotas; and how many by
    source/modality/objectives.

    Raises:
        UserError: a quota can't be met.
    """
    judged = index.judged()
    known: dict[tuple[int, ...], tuple[tuple[Comparison, ...], tuple[Ranking, ...]]] = {}
    counted = []
    none: dict[str, Any] = {}
    for place in np.flatnonzero(subject_N).tolist():
        labels = tuple(judged.labels(place))
        if labels not in known:
            said = [index.labels[label] for label in labels]
            known[labels] = (
                tuple(Comparison(objective, 0, 1) for kind, objective in said if kind == "pair"),
                tuple(Ranking(objective, ((0,), (1,))) for kind, objective in said if kind == "ranking"),
            )
        flip = index["flip"][place]
        counted.append(
            _Counted(
                place,
                index["id"][place].tobytes().hex(),
                sources[index["source"][place]],
                MODALITIES[index["modality"][place]],
                *known[labels],
                {"flip": flip.tobytes().hex()} if flip.any() else none,
            )
        )
    kept, dropped = apply_quotas(cast(list[PreferenceRecord], counted), balance, seed)
    gone_N = subject_N.copy()
    gone_N[[cast(_Counted, record).place for record in kept]] = False
    return gone_N, dropped
