"""What the remedies share: which records they are about, and units, of which none is torn apart."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from data_tools.build.index import MODALITIES
from data_tools.build.view import Remedy, View
from data_tools.errors import UserError
from data_tools.hashes import numbered
from data_tools.manifest import KINDS
from data_tools.schema import Modality

__all__ = ["Remedy", "Selective", "View", "draw", "units", "whole_units"]


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
            UserError: there is no record of a source or in a split that is named.
        """
        found = view["kind"] == KINDS.index("preference")
        if self.modality is not None:
            found &= view["modality"] == MODALITIES.index(self.modality)
        for key, names, held in (("sources", self.sources, view.source), ("splits", self.splits, view.split)):
            known = set(held.tolist())
            for name in names:
                if name not in known:
                    raise UserError(
                        f"remedies.{type(self).model_fields['type'].default}.{key}: no record is of {name!r}; there "
                        f"are: {', '.join(sorted(known))}"
                    )
            if names:
                found &= np.isin(held.astype(str), names)
        return found


def units(view: View) -> np.ndarray:
    """A number for each record, the same for both of a flip pair; int64 (N)."""
    numbers, _ = numbered(view["flip"])
    alone = ~view["flip"].any(axis=1)
    return np.where(alone, numbers.max(initial=0) + 1 + np.arange(len(view)), numbers)


def whole_units(mask_N: np.ndarray, unit_N: np.ndarray) -> np.ndarray:
    """The mask, and with each of its records the other one of its flip pair."""
    return np.isin(unit_N, unit_N[mask_N])


def draw(view: View, seed: int, what: str) -> np.ndarray:
    """For each record a number in [0, 1) that hangs on the seed, `what`, and the record's id or flip pair alone: the
    same for both of a pair. float64 (N)
    """
    keys = np.where(view["flip"].any(axis=1)[:, None], view["flip"], view["id"])
    salt = np.frombuffer(f"{seed}/{what}".encode().ljust(64, b"\0")[:64], np.uint64)
    mixed = keys[:, 0] ^ (keys[:, 1] * np.uint64(0x9E3779B97F4A7C15))
    for word in salt:
        mixed = (mixed ^ word) * np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(33)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
