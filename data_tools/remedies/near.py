"""One of each record that nearly repeats another: re-encoded pictures, texts with a word changed."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from data_tools.audits.near_texts import THRESHOLD
from data_tools.remedies.base import Selective, View
from data_tools.remedies.likeness import likeness_of


class DropNearCopies(Selective):
    """Keeps the first record of those in a split whose words nearly agree and whose pictures nearly look the same.

    The records of flip pairs stay, and others go as their copies. Exact copies are merged before (`dedup`), which loses
    no judgement; this does, so it counts them.
    """

    type: Literal["near_copies"] = "near_copies"
    threshold: float = Field(
        default=THRESHOLD,
        gt=0,
        le=1,
        description="How far the words' overlap (Jaccard, runs of three) must go.",
    )

    def apply(self, view: View, seed: int) -> None:
        copies = likeness_of(view).copies(self.threshold)
        _, split = np.unique(view.split.astype(str), return_inverse=True)
        paired = view["flip"].any(axis=1)
        order = np.lexsort((np.arange(len(view)), ~paired))  # pairs first
        joined = (copies * (split.max(initial=0) + 1) + split)[order]
        _, firsts = np.unique(joined, return_index=True)
        again = np.ones(len(view), bool)
        again[order[firsts]] = False
        view.drop(self.subjects(view) & again & ~paired & (copies >= 0), "nearly a copy")
