"""How the audits put numbers into sentences."""

from __future__ import annotations

from collections.abc import Mapping

from data_tools.audits.base import Scope
from data_tools.intervals import Estimate


def percent(value: Estimate) -> str:
    """A share with its interval: "54.2 % (50.1 to 58.3)"."""
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def against_chance(found: Mapping[Scope, Estimate], says: str) -> str:
    """A sentence for each split and modality, and whether its interval holds 50 %; `says` has a place for the share."""
    sentences = []
    for scope, value in found.items():
        if scope.modality and scope == Scope(scope.split, scope.modality):
            if value.low > 0.5:
                verdict = "more than chance"
            elif value.high < 0.5:
                verdict = "less than chance"
            else:
                verdict = "no more than chance"
            sentences.append(f"{scope.split}, {scope.modality}: {says.format(percent(value))}: {verdict}.")
    return " ".join(sentences) or "There is no pair to look at."
