"""What was judged, how often, and how evenly: labels by split, kind of prompt, objective and source."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from data_tools.audits.base import Audit, AuditResult, Cell, Data, Finding, Metric, Plot, Scope, Table
from data_tools.audits.sampled import SCOPE_COLUMNS, scope_cells, wider
from data_tools.hashes import hash64
from data_tools.labels import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 20
COUNTED = (*LABELS, "ties", "yes or no", "yes")


class LabelBalance(Audit):
    """How much was judged on what."""

    name: ClassVar[str] = "labels"
    title: ClassVar[str] = "What was judged"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "tie_share": Metric("share of comparisons that are ties"),
        "yes_share": Metric("share of yes-or-no labels that are yes"),
        "rating_mean": Metric("mean of scalar ratings, as a share of their scale"),
        "image_share": Metric("share of records with a label whose prompt shows an image"),
        "flip_share": Metric("share of such image records that are half of a whole image-flip pair"),
    }

    headline: ClassVar[tuple[str, ...]] = ("image_share", "flip_share")

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._counts: dict[Scope, Counter[str]] = defaultdict(Counter)
        self._ratings: dict[Scope, np.ndarray[Any, Any]] = {}
        self._sums: dict[Scope, float] = defaultdict(float)
        self._records: Counter[tuple[str, bool]] = Counter()
        self._flips: dict[str, array[int]] = defaultdict(lambda: array("q"))

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        modality = "image-text" if row["images"] else "text"
        for kind, label in _labels(row):
            scope = Scope(split, modality, label.get("objective", ""), row["source"])
            counts = self._counts[scope]
            if kind == "ratings" and label.get("kind") == "binary":
                counts["yes or no"] += 1
                counts["yes"] += label["value"] == label["high"]
            else:
                counts[kind] += 1
                counts["ties"] += kind == "comparisons" and label["tie"]
            if kind == "ratings" and label.get("kind") != "binary" and label["high"] > label["low"]:
                self._rate(scope, (label["value"] - label["low"]) / (label["high"] - label["low"]))
        if row["comparisons"] or row["ratings"] or row.get("rankings"):
            self._records[split, modality == "image-text"] += 1
            flip = row["provenance"].get("flip")
            if row["images"] and isinstance(flip, str):
                self._flips[split].append(hash64(row["source"], flip))

    def _rate(self, scope: Scope, share: float) -> None:
        bins = self._ratings.setdefault(scope, np.zeros(BINS + 1, dtype=np.int64))
        bins[round(share * BINS)] += 1
        self._sums[scope] += share

    def finish(self) -> AuditResult:
        findings = [*self._label_findings(), *self._record_findings()]
        rows: list[tuple[Cell, ...]] = [
            (*scope_cells(scope), *(counts[name] for name in COUNTED))
            for scope, counts in sorted(self._counts.items(), key=self._place)
        ]
        title = "Labels"
        note = (
            "“ratings” are on a scale; “yes or no” ratings are counted apart, with how many of them are yes."
        )
        return self.result(
            self._says(),
            findings,
            tables=(Table(title, (*SCOPE_COLUMNS, *COUNTED), tuple(rows), note),),
            plots=self._plots(),
        )

    def _place(self, item: tuple[Scope, Any]) -> tuple[int, Scope]:
        return self.data.splits.index(item[0].split), item[0]

    def _says(self) -> str:
        sentences = []
        for split in self.data.splits:
            images, texts = (self._records[split, held] for held in (True, False))
            if images + texts:
                whole = _whole(self._flips[split])
                sentences.append(
                    f"{split}: {images + texts:,} records with labels, {images / (images + texts):.0%} of them with an "
                    f"image; {whole:,} of these are halves of image-flip pairs."
                )
        return " ".join(sentences) or "Nothing was judged."

    def _label_findings(self) -> Iterator[Finding]:
        totals: dict[Scope, Counter[str]] = defaultdict(Counter)
        sums: dict[Scope, float] = defaultdict(float)
        rated: Counter[Scope] = Counter()
        for scope, counts in self._counts.items():
            for name in wider(scope):
                totals[name].update(counts)
                sums[name] += self._sums[scope]
                rated[name] += int(self._ratings[scope].sum()) if scope in self._ratings else 0
        for scope, counts in sorted(totals.items(), key=self._place):
            if counts["comparisons"]:
                yield Finding("tie_share", counts["ties"] / counts["comparisons"], scope)
            if counts["yes or no"]:
                yield Finding("yes_share", counts["yes"] / counts["yes or no"], scope)
            if rated[scope]:
                yield Finding("rating_mean", sums[scope] / rated[scope], scope)

    def _record_findings(self) -> Iterator[Finding]:
        for split in self.data.splits:
            images, texts = (self._records[split, held] for held in (True, False))
            if images + texts:
                yield Finding("image_share", images / (images + texts), Scope(split))
            if images:
                yield Finding("flip_share", _whole(self._flips[split]) / images, Scope(split))

    def _plots(self) -> tuple[Plot, ...]:
        series: dict[str, np.ndarray[Any, Any]] = {}
        for scope, bins in sorted(self._ratings.items()):
            name = f"{scope.objective} ({scope.source})"
            series[name] = series.get(name, 0) + bins

        def draw(axes: Axes) -> None:
            at = np.arange(BINS + 1) / BINS
            for number, (name, bins) in enumerate(series.items()):
                shift = (number - (len(series) - 1) / 2) / BINS / (len(series) + 1)
                axes.bar(at + shift, bins / bins.sum(), width=1 / BINS / (len(series) + 1), label=name)
            axes.set_xlabel("rating, as a share of its scale")
            axes.set_ylabel("share of ratings")
            axes.legend(frameon=False)

        return (Plot("Ratings", draw),) if series else ()


def _labels(row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in LABELS:
        for label in row.get(kind, ()):  # most records have no corrections, critiques and votes
            yield kind, label


def _whole(flips: array[int]) -> int:
    """How many records are half of a pair whose other half is there too."""
    _, sizes = np.unique(np.frombuffer(flips, dtype=np.int64), return_counts=True)
    return 2 * int((sizes == 2).sum())
