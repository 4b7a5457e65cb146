"""What makes records alike: their pictures' look, their words, and what their source says belongs together."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_tools.audits.near_texts import PERMUTATIONS, THRESHOLD, near_clusters, signatures
from data_tools.audits.pictures import Pictures
from data_tools.hashes import hash64, mix

if TYPE_CHECKING:
    import numpy as np

# how a record may hang together with one of another split, in words, and the metric that counts it
WAYS = {
    "same picture": "leak_image",
    "nearly the same picture": "leak_near_image",
    "the same pixel columns": "leak_rearranged",
    "one group or flip pair": "leak_group",
    "nearly the same question": "leak_text",
}


AT_ONCE = 20_000  # characters of texts that are hashed at once


@dataclass(frozen=True)
class Links:
    """For one way of hanging together: `keys[k]` is what record `records[k]` has, in the order of the records."""

    records: np.ndarray
    keys: np.ndarray

    def shared(self, these: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The places k whose record is among `these` (a mask of the records) and whose key one of `others` has too."""
        import numpy as np

        return np.flatnonzero(these[self.records] & np.isin(self.keys, self.keys[others[self.records]]))


class Likeness:
    """Takes in N records one by one, as plain JSON; keeps some hundred bytes of each."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self._count = 0
        self._shown_by, self._shown = array("q"), array("q")  # record, picture: every place of a picture
        self._declared_by, self._declared = array("q"), array("Q")
        self._texts, self._questions = _Texts(), _Texts()

    def __len__(self) -> int:
        return self._count

    def add(self, split: str, index: int, row: dict[str, Any]) -> None:
        """The next record: `row` is its `schema.to_json`, and `split` and `index` are where its pictures are found."""
        number, self._count = self._count, self._count + 1
        for picture in self.pictures.of(split, index, row):
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

    def links(self) -> dict[str, Links]:
        """By each of `WAYS`, what the records have."""
        import numpy as np

        by, shown = np.asarray(self._shown_by), np.asarray(self._shown)
        questions = self._questions.clusters(self._count)
        asked = np.flatnonzero(questions >= 0)
        found = (
            Links(by, shown),
            Links(by, self.pictures.near()[shown]),
            Links(by, self.pictures.columns()[shown]),
            Links(np.asarray(self._declared_by), np.asarray(self._declared)),
            Links(asked, questions[asked]),
        )
        return dict(zip(WAYS, found, strict=True))

    def pictured(self) -> np.ndarray:
        """Whether each record has a picture; bool (N)."""
        import numpy as np

        out = np.zeros(self._count, bool)
        out[np.asarray(self._shown_by)] = True
        return out

    def copies(self, threshold: float = THRESHOLD) -> np.ndarray:
        """A number for each record, the same for those whose words nearly agree, and whose pictures do in their order;
        -1 for one without words or pictures. int64 (N)
        """
        import numpy as np

        texts = self._texts.clusters(self._count, threshold)
        pictured = self.pictured()
        total = np.zeros(self._count, np.uint64)
        by = np.asarray(self._shown_by)
        looks = self.pictures.near()[np.asarray(self._shown)]
        place = np.arange(len(by)) - np.searchsorted(by, by)  # which of its record's pictures
        np.add.at(total, by, mix(looks.astype(np.uint64) ^ mix(place.astype(np.uint64) + np.uint64(1))))
        joined = mix(total) ^ texts.astype(np.uint64)
        out = np.unique(joined, return_inverse=True)[1].astype(np.int64)
        out[~pictured & (texts < 0)] = -1
        return out


class _Texts:
    """MinHash signatures by record, where the record has such a text."""

    def __init__(self) -> None:
        self.records, self.bytes = array("q"), bytearray()
        self._waiting: list[tuple[int, str]] = []  # the next to be hashed at once
        self._characters = 0

    def add(self, record: int, text: str) -> None:
        self._waiting.append((record, text))
        self._characters += len(text)
        if self._characters >= AT_ONCE:
            self._hash()

    def _hash(self) -> None:
        found, rows = signatures([text for _, text in self._waiting])
        self.records.extend(self._waiting[number][0] for number in found)
        self.bytes += rows.tobytes()
        self._waiting, self._characters = [], 0

    def clusters(self, count: int, threshold: float = THRESHOLD) -> np.ndarray:
        """By record (of `count`), the number of its text's cluster; -1 where it has none."""
        import numpy as np

        self._hash()
        out = np.full(count, -1, np.int64)
        rows = np.frombuffer(self.bytes, np.uint32).reshape(-1, PERMUTATIONS)
        out[np.asarray(self.records)] = near_clusters(rows, threshold)
        return out


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
            yield hash64(kind, row["source"], name)
