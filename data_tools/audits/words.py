"""How the audits put numbers into sentences."""

from __future__ import annotations

from collections.abc import Mapping

from data_tools.audits.base import Scope
from data_tools.intervals import Estimate


def percent(value: Estimate) -> str:
    """A share with its interval: "54.2 % (50.1 to 58.3)"."""
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def against_chance(found: Mapping[Scope, Estimate], says: str) -> str:
    """A sentence: what `says` of each split and modality, and whether its interval holds 50 %."""
    parts = []
    for scope, value in found.items():
        if scope.modality and scope == Scope(scope.split, scope.modality):
            verdict = "more" if value.low > 0.5 else "less" if value.high < 0.5 else "no more"
            parts.append(f"{scope.split}, {scope.modality}: {percent(value)}, {verdict} than chance")
    return f"{says} in so many pairs: {'; '.join(parts)}." if parts else "There is no pair to look at."
