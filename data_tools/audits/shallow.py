"""What can be said of a pair without reading it: which answer is longer, and which one stands first.

Each is a fixed rule, which is fitted (is the longer answer better, or the shorter one?) and judged on other groups than
those it was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_tools.audits.base import AuditResult, Metric, Plot, Scope
from data_tools.audits.sampled import PairAudit, SharedPairs
from data_tools.audits.words import against_chance
from data_tools.intervals import Estimate, Floats, gap_auc

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Length(PairAudit):
    """Longer or shorter."""

    name: ClassVar[str] = "length"
    title: ClassVar[str] = "From length alone"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "length_accuracy": Metric(
            "share of pairs right by characters alone, longer or shorter as elsewhere in the data", base=0.5
        ),
        "length_auc": Metric(
            "how well the difference in characters ranks pairs (area under the curve); above 0.5: longer is better",
            base=0.5,
        ),
        "longer_is_better": Metric("share of pairs whose better answer has more characters", base=0.5),
        "more_words_is_better": Metric("share of pairs whose better answer has more words", base=0.5),
    }
    headline: ClassVar[tuple[str, ...]] = ("longer_is_better",)

    def finish(self) -> AuditResult:
        shared = self.shared
        gaps = _gaps(shared, len)
        characters = shared.shares(shared.right(gaps))
        words = shared.shares(shared.right(_gaps(shared, lambda text: len(text.split()))))
        accuracy = shared.shares(_by_sign(shared, np.sign(gaps)))
        areas = _areas(shared, gaps * (2 * shared.first - 1))
        found = {
            "length_accuracy": accuracy,
            "length_auc": areas,
            "longer_is_better": characters,
            "more_words_is_better": words,
        }
        return self.result(
            against_chance(characters, "The better answer is the longer one"),
            self.findings(**found),
            tables=(self.table("Length", "An equal length counts as half right.", **found),),
            plots=_gap_plot(shared, gaps * (2 * shared.first - 1)),
            notes=shared.sample.notes(),
        )


class Position(PairAudit):
    """First or second."""

    name: ClassVar[str] = "position"
    title: ClassVar[str] = "From position alone"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "position_accuracy": Metric(
            "share of pairs right by position alone, first or second as elsewhere in the data", base=0.5
        ),
        "first_is_better": Metric("share of pairs whose better answer stands first in the record", base=0.5),
    }
    headline: ClassVar[tuple[str, ...]] = ("first_is_better",)

    def finish(self) -> AuditResult:
        shared = self.shared
        first = shared.shares(shared.first)
        accuracy = shared.shares(_by_sign(shared, np.ones(len(shared.pairs))))
        note = (
            "Where rows say “chosen” and “rejected”, the chosen answer stands first in every record. That does no harm "
            "to a model that reads each answer by itself; a judge that is shown both must see them in random order."
        )
        return self.result(
            against_chance(first, "The better answer is the first one"),
            self.findings(position_accuracy=accuracy, first_is_better=first),
            tables=(self.table("Position", note, position_accuracy=accuracy, first_is_better=first),),
            notes=shared.sample.notes(),
        )


def _gaps(shared: SharedPairs, size: Callable[[str], int]) -> Floats:
    """Size of the first answer minus that of the second."""
    return np.array(
        [size(pair.answers[0]) - size(pair.answers[1]) for pair in shared.pairs], dtype=np.float64
    )


def _by_sign(shared: SharedPairs, signs: Floats) -> Floats:
    """How right a rule is (1, 0.5 or 0): each sign, or its opposite, whichever is right more often in the other folds
    of the same modality, objective and source; half right where it is a draw there."""
    right = shared.right(signs) - 0.5
    out = np.full(len(right), 0.5)
    for members in shared.tasks.values():
        folds = shared.folds(members)
        for fold in np.unique(folds):
            inside = members[folds == fold]
            out[inside] = 0.5 + right[inside] * np.sign(right[members[folds != fold]].sum())
    return out


def _areas(shared: SharedPairs, gaps: Floats) -> dict[Scope, Estimate]:
    """The area under the curve of the better answers' gaps, in each part of the data."""
    found: dict[Scope, Estimate] = {}
    known: dict[bytes, Estimate] = {}
    for scope, members in shared.scopes.items():
        key = members.tobytes()
        if key not in known:
            known[key] = gap_auc(gaps[members], shared.groups[members])
        found[scope] = known[key]
    return found


def _gap_plot(shared: SharedPairs, gaps: Floats) -> tuple[Plot, ...]:
    series = {
        " ".join((scope.modality, scope.objective, scope.source)): gaps[members]
        for scope, members in shared.tasks.items()
    }

    def draw(axes: Axes) -> None:
        from data_tools.pages.svg import FAINT

        edge = max(1.0, float(np.quantile(np.abs(gaps), 0.98)))
        edges = np.linspace(-edge, edge, 42)
        for name, values in series.items():
            counts, _ = np.histogram(np.clip(values, -edge, edge), edges)
            axes.stairs(counts / len(values), edges, label=name, linewidth=1.6)
        axes.axvline(0, linestyle=(0, (3, 3)), linewidth=0.9, color=FAINT)
        axes.set_xlabel("characters of the better answer minus those of the worse one")
        axes.set_ylabel("share of pairs")
        axes.legend(frameon=False)

    return (Plot("How much longer the better answer is", draw),) if series else ()
