"""How the audits put numbers into sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from data_tools.audits.base import Scope
from data_tools.intervals import Estimate


def percent(value: Estimate) -> str:
    """A share with its interval: "54.2 % (50.1 to 58.3)"."""
    return f"{100 * value.mean:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def against_chance(found: Mapping[Scope, Estimate], says: str) -> str:
    """A sentence: what `says` of each split and modality, and whether its interval holds 50 %; and of the source and
    objective there that is the surest to be above it, which a large one that is even can hide among all.
    """
    parts = []
    for scope, value in found.items():
        if scope.modality and scope == Scope(scope.split, scope.modality):
            verdict = "more" if value.low > 0.5 else "less" if value.high < 0.5 else "no more"
            parts.append(
                f"{scope.split}, {scope.modality}: {percent(value)}, {verdict} than chance{_worst(found, scope)}"
            )
    return (
        f"{says} in so many pairs: {'; '.join(parts)}."
        if parts
        else "There is no pair of which this can be told."
    )


def _worst(found: Mapping[Scope, Estimate], whole: Scope) -> str:
    tasks = {
        scope: value
        for scope, value in found.items()
        if scope == replace(whole, objective=scope.objective, source=scope.source)
        and scope.objective
        and scope.source
        and value.low > 0.5
    }
    if not tasks:
        return ""
    worst = max(tasks, key=lambda scope: tasks[scope].low)
    if tasks[worst] == found[whole]:
        return ""  # all there is
    more = f", and {len(tasks) - 1} more of its parts are above chance" if len(tasks) > 1 else ""
    return f" (the worst is {worst.source}, {worst.objective}: {percent(tasks[worst])}{more})"
