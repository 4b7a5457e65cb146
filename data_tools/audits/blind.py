"""How well the preference can be predicted from the words alone, without the image: `probe` cross-validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from data_tools.audits.base import AuditResult, Example, Metric, Plot, Table
from data_tools.audits.features import telling
from data_tools.audits.probe import FEWEST, BlindProbe, fit, task_of
from data_tools.audits.sampled import PairAudit, SharedPairs
from data_tools.audits.words import against_chance
from data_tools.intervals import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6  # examples


class Blind(PairAudit):
    """The blind text probe."""

    name: ClassVar[str] = "blind"
    title: ClassVar[str] = "Without the image"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "blind_accuracy": Metric(
            "share of pairs whose better answer a reader of the words alone names (cross-validated)", base=0.5
        )
    }

    def finish(self) -> AuditResult:
        shared = self.shared
        probe = fit(shared.pairs, shared.groups, shared.seed)
        right = shared.right(probe.out_of_fold - 0.5)
        accuracy = shared.shares(right)
        first = shared.shares(shared.first)
        notes = [*shared.sample.notes(), *_unjudged(shared, probe)]
        tables = [
            self.table(
                "Accuracy of the blind probe",
                "What hangs together by image, prompt, flip pair or declared group is never both learnt from and "
                "judged. Chance is 50 %; always naming the first answer would be right as often as stands beside it.",
                blind_accuracy=accuracy,
                first_is_better=first,
            )
        ]
        gives = _gives_away(shared, probe)
        return self.result(
            against_chance(accuracy, "The words alone name the better answer"),
            self.findings(blind_accuracy=accuracy),
            tables=(*tables, *gives),
            plots=_plots(shared, probe),
            examples=_examples(shared, probe.out_of_fold),
            notes=tuple(notes),
        )


def _unjudged(shared: SharedPairs, probe: BlindProbe) -> list[str]:
    """A sentence for each task of which the probe can tell nothing."""
    return [
        f"{scope.source}, {scope.modality}, {scope.objective}: not judged, as {len(members):,} pairs in "
        f"{len(np.unique(shared.groups[members]))} groups are too few to learn from (it takes {FEWEST} groups)"
        for scope, members in shared.tasks.items()
        if (scope.modality, scope.objective, scope.source) not in probe.weights
    ]


def _gives_away(shared: SharedPairs, probe: BlindProbe) -> list[Table]:
    """The words by which the probe goes, for each modality, objective and source."""
    rows = []
    for members in shared.tasks.values():
        pairs = [shared.pairs[i] for i in members]
        task = task_of(pairs[0])
        if task in probe.weights:
            better, worse = telling(pairs, probe.weights[task].mean(0).astype(np.float64))
            rows.append((*task, _quoted(better), _quoted(worse)))
    note = (
        "As far as single words tell; ^ and $ are an answer's beginning and end, and “word|answer” is an answer to a "
        "prompt with the word."
    )
    columns = ("kind", "objective", "source", "speaks for an answer", "speaks against it")
    return [Table("What the probe goes by", columns, tuple(rows), note)] if rows else []


def _quoted(tokens: list[str]) -> str:
    return (
        " ".join(f"\N{LEFT DOUBLE QUOTATION MARK}{token}\N{RIGHT DOUBLE QUOTATION MARK}" for token in tokens)
        or "none"
    )


def _plots(shared: SharedPairs, probe: BlindProbe) -> tuple[Plot, ...]:
    """How sure the probe is of the better answer."""
    sure = np.where(shared.first == 1, probe.out_of_fold, 1 - probe.out_of_fold)
    series = {
        " ".join(filter(None, (scope.modality, scope.objective, scope.source))): sure[members]
        for scope, members in shared.tasks.items()
        if not np.isnan(sure[members]).all()
    }

    def draw(axes: Axes) -> None:
        from data_tools.pages.svg import FAINT

        edges = np.linspace(0, 1, 21)
        for name, values in series.items():
            counts, _ = np.histogram(values, edges)
            axes.stairs(counts / counts.sum(), edges, label=name, linewidth=1.6)
        axes.axvline(0.5, linestyle=(0, (3, 3)), linewidth=0.9, color=FAINT)
        axes.set_xlabel("probability that the probe gives the better answer, out of fold")
        axes.set_ylabel("share of pairs")
        axes.set_xlim(0, 1)
        axes.legend(frameon=False)

    return (Plot("How sure the probe is of the better answer", draw),) if series else ()


def _examples(shared: SharedPairs, chance: Floats) -> tuple[Example, ...]:
    """The pairs that give themselves away the most, one a record; those with an image first."""
    sure = np.where(shared.first == 1, chance, 1 - chance)
    order = sorted(
        (i for i in range(len(sure)) if sure[i] > 0.5),
        key=lambda i: (shared.pairs[i].modality == "text", -sure[i], shared.pairs[i].record),
    )
    found: dict[tuple[str, int], Example] = {}
    for modality in ("image-text", "text"):
        wanted = [i for i in order if shared.pairs[i].modality == modality]
        room = SHOWN // 2 + len(found)
        for i in wanted:
            pair = shared.pairs[i]
            if len(found) < room:
                said = "first" if pair.better == 0 else "second"
                found.setdefault(
                    (pair.split, pair.place),
                    Example(
                        f"{pair.objective}: the {said} answer is the better one; the probe, blind, gives it "
                        f"{sure[i]:.0%}",
                        ((pair.split, pair.place),),
                    ),
                )
    return tuple(found.values())
