"""Lengths matched: among pairs whose answers differ in length by about as much, the longer wins as often as the
shorter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from data_tools.remedies.base import Selective, View


class MatchLengths(Selective):
    """Leaves out, by source, modality, objective and split, pairs of the side that wins more often, so that length says
    nothing.

    A record goes by the first comparison that it has, and its objective; one without (ratings, rankings), one whose two
    answers are of one length, and flip pairs, which are even by themselves, stay.
    """

    type: Literal["match_lengths"] = "match_lengths"

    def apply(self, view: View, seed: int) -> None:
        chosen, rejected = view["chosen"].astype(np.int64), view["rejected"].astype(np.int64)
        unit_N = view.units
        by = chosen - rejected
        concerned = self.subjects(view) & (chosen >= 0) & (by != 0) & (np.bincount(unit_N)[unit_N] == 1)
        # characters in powers of two: a difference of 3 is no match for one of 300
        size = np.where(by == 0, 0, np.log2(np.maximum(np.abs(by), 1)).astype(np.int64))
        _, split = np.unique(view.split.astype(str), return_inverse=True)
        _, cell = np.unique(
            np.stack([view["source"], view["modality"], view["compared"], split, size]),
            axis=1,
            return_inverse=True,
        )
        gone = np.zeros(len(view), bool)
        # in the order of cell, side and luck; within a cell as many of each side stay as the smaller one has
        order = np.lexsort((view.luck(seed, "match_lengths"), by > 0, cell))
        order = order[concerned[order]]
        cells, starts = np.unique(cell[order], return_index=True)
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True) if len(cells) else ():
            members = order[start:stop]
            shorter, longer = members[by[members] < 0], members[by[members] > 0]
            most = min(len(shorter), len(longer))
            gone[shorter[most:]] = gone[longer[most:]] = True
        view.drop(gone, "length alone tells the better answer")
