"""Copies and leaks: pictures and texts that nearly repeat others, and what the splits share that they must not.

A record outside `train` leaks where a training record shows one of its pictures: the same bytes, nearly the same look,
or the same pixel columns in another order; where both lie in one group or flip pair that their source declares; or, of
text-only records, where their first question is nearly the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from data_tools.audits.base import Audit, AuditResult, Data, Example, Finding, Metric, Scope, Table
from data_tools.audits.likeness import WAYS, Likeness, Links
from data_tools.audits.pictures import pictures_of

if TYPE_CHECKING:
    import numpy as np

TRAIN = "train"
SHOWN = 6  # examples of each kind


class Copies(Audit):
    """Near-duplicates of pictures and texts, and leaks between the splits."""

    name = "copies"
    title = "Copies and leaks"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "near_images": Metric("Pictures that look nearly like another one.", base=0.0),
        "near_texts": Metric("Text-only records whose prompt and answers nearly repeat another's.", base=0.0),
        "near_records": Metric(
            "Records with pictures that nearly repeat the texts and the look of another.", base=0.0
        ),
        "leak": Metric("Records of a split that share something with train.", base=0.0),
        "leak_image": Metric("... the bytes of a picture.", base=0.0),
        "leak_near_image": Metric("... a picture's look, nearly.", base=0.0),
        "leak_rearranged": Metric("... a picture's pixel columns, in any order.", base=0.0),
        "leak_group": Metric("... a group or flip pair of their source.", base=0.0),
        "leak_text": Metric("... the first question, nearly (text-only records).", base=0.0),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._likeness = Likeness(pictures_of(data))
        self._splits, self._indices = array("B"), array("q")

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        self._splits.append(self.data.splits.index(split))
        self._indices.append(index)
        self._likeness.add(split, index, row)

    def finish(self) -> AuditResult:
        findings, examples = self._near()
        leaks, rows, leaked = self._leaks(self._likeness.links())
        columns = ("split", "records", *WAYS, "any of them")
        return self.result(
            _says([*findings, *leaks]),
            [*findings, *leaks],
            tables=(Table("Shared with train", columns, tuple(rows)),) if rows else (),
            examples=(*examples, *leaked),
            notes=("Crops, and texts in other words, aren't found.",),
        )

    def _near(self) -> tuple[list[Finding], list[Example]]:
        findings, examples = list[Finding](), list[Example]()
        pictures = self._likeness.pictures
        looks = pictures.near()
        if len(looks):
            findings.append(Finding("near_images", float(_repeated(looks).mean())))
            examples += [
                Example(
                    "nearly the same picture",
                    tuple(pictures.place(i) for i in pair),
                )
                for pair in _pairs(looks, SHOWN)
            ]
        copies, pictured = self._likeness.copies(), self._likeness.pictured()
        for metric, those in (("near_texts", ~pictured), ("near_records", pictured)):
            if those.any():
                findings.append(Finding(metric, float(_repeated(copies[those]).mean())))
                members = those.nonzero()[0]
                examples += [
                    Example("nearly the same record", tuple(self._place(members[i]) for i in pair))
                    for pair in _pairs(copies[those], SHOWN)
                ]
        return findings, examples

    def _leaks(
        self, links: Mapping[str, Links]
    ) -> tuple[list[Finding], list[tuple[Any, ...]], list[Example]]:
        """For each split but train: the share of its records that each link joins to a training record."""
        import numpy as np

        splits, names = np.asarray(self._splits), self.data.splits
        findings, rows, examples = list[Finding](), list[tuple[Any, ...]](), list[Example]()
        train = splits == names.index(TRAIN) if TRAIN in names else np.zeros(len(splits), bool)
        for number, name in enumerate(names):
            members = splits == number
            if name == TRAIN or not members.any() or not train.any():
                continue
            whole, shares = np.zeros(len(splits), bool), list[float]()
            for way, link in links.items():
                met = link.shared(members, train)
                hit = np.zeros(len(splits), bool)
                hit[link.records[met]] = True
                whole |= hit
                shares.append(float(hit[members].mean()))
                findings.append(Finding(WAYS[way], shares[-1], Scope(split=name)))
                of_train = train[link.records]
                for at in met[:SHOWN]:
                    partner = link.records[of_train & (link.keys == link.keys[at])][0]
                    places = (self._place(partner), self._place(link.records[at]))
                    examples.append(Example(f"{way}, in {TRAIN} and {name}", places))
            findings.append(Finding("leak", float(whole[members].mean()), Scope(split=name)))
            rows.append((name, int(members.sum()), *shares, float(whole[members].mean())))
        return findings, rows, examples

    def _place(self, record: int) -> tuple[str, int]:
        return self.data.splits[self._splits[record]], self._indices[record]


def _repeated(clusters: np.ndarray) -> np.ndarray:
    """Whether each shares its number with another; -1 is none."""
    import numpy as np

    _, back, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    return (counts[back] > 1) & (clusters >= 0)


def _pairs(clusters: np.ndarray, most: int) -> list[tuple[int, int]]:
    """The first two members of some of the clusters that have two."""
    import numpy as np

    order = np.argsort(clusters, kind="stable")
    ranked = clusters[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    twos = starts[np.append(starts[1:], len(ranked)) - starts > 1][:most]
    return [(int(order[start]), int(order[start + 1])) for start in twos]


def _says(findings: list[Finding]) -> str:
    worst = max((f for f in findings if f.metric == "leak"), key=lambda f: f.number, default=None)
    near = ", ".join(
        f"{f.metric.replace('_', ' ')} {f.number:.1%}" for f in findings if f.metric.startswith("near")
    )
    if worst is None:
        return f"There is no second split to leak into. {near}."
    if worst.number == 0:
        return f"No split shares a picture, group or question with train. {near}."
    return f"{worst.number:.1%} of the records in {worst.scope.split} share something with train. {near}."
