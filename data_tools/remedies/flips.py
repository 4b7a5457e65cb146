"""Only image-flip pairs: whoever doesn't look gets exactly one of the two right."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from data_tools.remedies.base import Selective, View
from data_tools.schema import Modality


class OnlyFlipPairs(Selective):
    """Leaves out what stands in no flip pair that is whole in its split."""

    type: Literal["only_flip_pairs"] = "only_flip_pairs"
    modality: Modality | None = Field(
        default="image-text", description="For the records of this modality; null is both."
    )

    def apply(self, view: View, seed: int) -> None:
        unit_N = view.units
        view.drop(self.subjects(view) & (np.bincount(unit_N)[unit_N] < 2), "in no flip pair")
