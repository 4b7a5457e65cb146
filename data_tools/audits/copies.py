"""Copies and leaks: pictures and texts that nearly repeat others, and what the splits share that they must not.

A record outside `train` leaks where a training record shows one of its pictures: the same bytes, nearly the same look,
or the same pixel columns in another order; where both lie in one group or flip pair that their source declares; or, of
text-only records, where their first question is nearly the same.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from data_tools.audits.base import Audit, AuditResult, Data, Example, Finding, Metric, Scope, Table
from data_tools.audits.near_texts import PERMUTATIONS, near_clusters, signature
from data_tools.audits.pictures import pictures_of

if TYPE_CHECKING:
    import numpy as np

TRAIN = "train"
SHOWN = 6  # examples of each kind
WAYS = {
    "same picture": "leak_image",
    "nearly the same picture": "leak_near_image",
    "the same pixel columns": "leak_rearranged",
    "one group or flip pair": "leak_group",
    "nearly the same question": "leak_text",
}


class _Texts:
    """MinHash signatures by record, where the record has such a text."""

    def __init__(self) -> None:
        self.records, self.bytes = array("L"), bytearray()

    def add(self, record: int, text: str) -> None:
        found = signature(text)
        if found is not None:
            self.records.append(record)
            self.bytes += found.tobytes()

    def clusters(self, count: int) -> np.ndarray:
        """By record (of `count`), the number of its text's cluster; -1 where it has none."""
        import numpy as np

        out = np.full(count, -1, np.int64)
        rows = np.frombuffer(self.bytes, np.uint32).reshape(-1, PERMUTATIONS)
        out[np.frombuffer(self.records, self.records.typecode)] = near_clusters(rows)
        return out


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
        self._pictures = pictures_of(data)
        self._splits, self._indices = array("B"), array("L")
        self._shown_by, self._shown = array("L"), array("L")  # record, picture: every place of a picture
        self._declared_by, self._declared = array("L"), array("Q")
        self._texts, self._questions = _Texts(), _Texts()

    def see(self, split: str, index: int, row: dict[str, Any]) -> None:
        number = len(self._splits)
        self._splits.append(self.data.splits.index(split))
        self._indices.append(index)
        for picture in self._pictures.of(split, index, row):
            self._shown_by.append(number)
            self._shown.append(picture)
        for key in _declared(row):
            self._declared_by.append(number)
            self._declared.append(key)
        self._texts.add(
            number, " ".join([_prompt(row), *sorted(answer["text"] for answer in row["responses"])])
        )
        if not row["images"]:
            self._questions.add(number, _question(row))

    def finish(self) -> AuditResult:
        import numpy as np

        count = len(self._splits)
        shown_by, shown = np.asarray(self._shown_by, np.int64), np.asarray(self._shown, np.int64)
        looks = self._pictures.near()
        texts = self._texts.clusters(count)
        links = {
            "same picture": (shown_by, shown),
            "nearly the same picture": (shown_by, looks[shown]),
            "the same pixel columns": (shown_by, self._pictures.columns()[shown]),
            "one group or flip pair": (
                np.asarray(self._declared_by, np.int64),
                np.asarray(self._declared, np.uint64),
            ),
            "nearly the same question": _known(self._questions.clusters(count)),
        }
        findings, examples = self._near(looks, texts, shown_by, shown)
        leaks, rows, leaked = self._leaks(links)
        return self.result(
            _says([*findings, *leaks]),
            [*findings, *leaks],
            tables=(Table("Shared with train", ("split", "records", *WAYS, "any of them"), tuple(rows)),)
            if rows
            else (),
            examples=(*examples, *leaked),
            notes=("Crops, and texts in other words, aren't found.",),
        )

    def _near(
        self, looks: np.ndarray, texts: np.ndarray, shown_by: np.ndarray, shown: np.ndarray
    ) -> tuple[list[Finding], list[Example]]:
        import numpy as np

        findings, examples = list[Finding](), list[Example]()
        if len(looks):
            findings.append(Finding("near_images", float(_repeated(looks).mean())))
            place = list(zip(self._pictures.splits, self._pictures.records, strict=True))
            examples += [
                Example("nearly the same picture", tuple(self._named(*place[i]) for i in pair))
                for pair in _pairs(looks, SHOWN)
            ]
        pictured = np.zeros(len(texts), bool)
        pictured[shown_by] = True
        plain = np.flatnonzero(~pictured & (texts >= 0))
        if len(plain):
            findings.append(Finding("near_texts", float(_repeated(texts[plain]).mean())))
            examples += [
                Example("nearly the same text", tuple(self._place(plain[i]) for i in pair))
                for pair in _pairs(texts[plain], SHOWN)
            ]
        if pictured.any():
            findings.append(
                Finding("near_records", float(_repeated(_joint(texts, shown_by, looks[shown])).mean()))
            )
        return findings, examples

    def _leaks(
        self, links: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> tuple[list[Finding], list[tuple[Any, ...]], list[Example]]:
        """For each split but train: the share of its records that each link joins to a training record."""
        import numpy as np

        splits = np.asarray(self._splits)
        names = self.data.splits
        findings, rows, examples = list[Finding](), list[tuple[Any, ...]](), list[Example]()
        if TRAIN not in names:
            return findings, rows, examples
        for number, name in enumerate(names):
            members = splits == number
            if name == TRAIN or not members.any():
                continue
            whole, shares = np.zeros(len(splits), bool), list[float]()
            for way, (records, keys) in links.items():
                of_train = records[splits[records] == names.index(TRAIN)]
                theirs = keys[splits[records] == names.index(TRAIN)]
                met = members[records] & np.isin(keys, theirs)
                hit = np.zeros(len(splits), bool)
                hit[records[met]] = True
                whole |= hit
                shares.append(float(hit[members].mean()))
                findings.append(Finding(WAYS[way], shares[-1], Scope(split=name)))
                for at in np.flatnonzero(met)[:SHOWN]:
                    partner = of_train[np.flatnonzero(theirs == keys[at])[0]]
                    examples.append(
                        Example(
                            f"{way}, in {TRAIN} and {name}", (self._place(partner), self._place(records[at]))
                        )
                    )
            findings.append(Finding("leak", float(whole[members].mean()), Scope(split=name)))
            rows.append((name, int(members.sum()), *shares, float(whole[members].mean())))
        return findings, rows, examples

    def _place(self, record: int) -> tuple[str, int]:
        return self._named(self._splits[record], self._indices[record])

    def _named(self, split: int, index: int) -> tuple[str, int]:
        return self.data.splits[split], int(index)


def _prompt(row: dict[str, Any]) -> str:
    return " ".join(
        part["text"] for message in row["prompt"] for part in message["content"] if part["type"] == "text"
    )


def _question(row: dict[str, Any]) -> str:
    first = next((message for message in row["prompt"] if message["role"] == "user"), row["prompt"][0])
    return " ".join(part["text"] for part in first["content"] if part["type"] == "text")


def _declared(row: dict[str, Any]) -> Iterator[int]:
    """A number for the group and one for the flip pair that the record's source gives it."""
    for kind in ("group", "flip"):
        name = row["provenance"].get(kind)
        if isinstance(name, str):
            text = f"{kind} {row['source']}/{name}".encode()
            yield int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _known(clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The records that have a cluster, and which."""
    import numpy as np

    records = np.flatnonzero(clusters >= 0)
    return records, clusters[records]


def _repeated(clusters: np.ndarray) -> np.ndarray:
    """Whether each shares its number with another."""
    import numpy as np

    _, back, counts = np.unique(clusters, return_inverse=True, return_counts=True)
    return counts[back] > 1


def _pairs(clusters: np.ndarray, most: int) -> list[tuple[int, int]]:
    """The first two members of some of the clusters that have two."""
    import numpy as np

    order = np.argsort(clusters, kind="stable")
    ranked = clusters[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    twos = starts[np.append(starts[1:], len(ranked)) - starts > 1][:most]
    return [(int(order[start]), int(order[start + 1])) for start in twos]


def _joint(texts: np.ndarray, shown_by: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """For each record with pictures a number, the same where the texts' clusters and those of all pictures are."""
    import numpy as np

    total = np.zeros(len(texts), np.uint64)
    place = np.arange(len(shown_by)) - np.searchsorted(shown_by, shown_by)  # which of its record's pictures
    mixed = (looks.astype(np.uint64) + np.uint64(1)) * (
        2 * place.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    )
    np.add.at(total, shown_by, mixed)
    records = np.unique(shown_by)
    return total[records] * np.uint64(0xFF51AFD7ED558CCD) + texts[records].astype(np.uint64)


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
