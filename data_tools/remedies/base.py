"""What the remedies share: which records they are about, and units, of which none is torn apart."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from data_tools.errors import UserError
from data_tools.manifest import KINDS
from data_tools.parts.index import MODALITIES
from data_tools.parts.view import Remedy, View
from data_tools.schema import Modality

__all__ = ["Remedy", "Selective", "View", "whole_units"]


class Selective(Remedy):
    """A remedy for the preference records of some sources, of a modality, in some splits."""

    sources: list[str] = Field(default=[], description="For the records of these sources; empty is all.")
    modality: Modality | None = Field(
        default=None, description="For the records of this modality; null is both."
    )
    splits: list[str] = Field(default=[], description="For the records in these splits; empty is all.")

    def subjects(self, view: View) -> np.ndarray:
        """Whether each record is one of those; bool (N).

        Raises:
            UserError: there is no source or split that is named; one that remedies before emptied is no mistake.
        """
        found = view["kind"] == KINDS.index("preference")
        if self.modality is not None:
            found &= view["modality"] == MODALITIES.index(self.modality)
        for key, names, known, held in (
            ("sources", self.sources, view.sources, view.source),
            ("splits", self.splits, view.splits, view.split),
        ):
            for name in names:
                if name not in known:
                    raise UserError(
                        f"remedies.{type(self).model_fields['type'].default}.{key}: there is no {name!r}; there are: "
                        f"{', '.join(sorted(known))}"
                    )
            if names:
                found &= np.isin(held.astype(str), names)
        return found


def whole_units(mask_N: np.ndarray, view: View) -> np.ndarray:
    """The mask, and with each of its records the other one of its flip pair."""
    unit_N = view.units
    return np.isin(unit_N, unit_N[mask_N])
