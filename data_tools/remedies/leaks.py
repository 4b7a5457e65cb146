"""Training records that hang together with records of another split: near-duplicates that no hash of bytes finds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from data_tools.audits.likeness import WAYS
from data_tools.remedies.base import Remedy, View, whole_units
from data_tools.remedies.likeness import likeness_of

TRAIN = "train"


class DropLeaks(Remedy):
    """Leaves out training records that share something with another split; the other splits stay as they are."""

    type: Literal["leaks"] = "leaks"
    by: list[str] = Field(
        default=list(WAYS.values()),
        min_length=1,
        description=f"What counts: {', '.join(WAYS.values())}; as the audit `copies` calls them.",
    )

    @field_validator("by")
    @classmethod
    def _by(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in WAYS.values():
                raise ValueError(f"{name!r} is none of {', '.join(WAYS.values())}")
        return value

    def apply(self, view: View, seed: int) -> None:
        train = (view.split == TRAIN).astype(bool)
        links = likeness_of(view).links()
        gone = np.zeros(len(view), bool)
        for way, link in links.items():
            if WAYS[way] in self.by:
                gone[link.records[link.shared(train, ~train)]] = True
        view.drop(whole_units(gone, view) & train, "shares something with another split")
