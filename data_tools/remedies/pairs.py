"""Image-flip pairs out of records that ask the same of different pictures and get the opposite answer."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_tools.hashes import hash16
from data_tools.remedies.base import Selective, View
from data_tools.schema import Modality


class PairFlips(Selective):
    """Joins records of one source and split by an image-flip pair: the same prompt and two answers, other pictures, and
    the other answer is better; the first of one side with the first of the other, and so on.

    Left alone is what whoever doesn't look could still tell, joined or not: records in a pair already, with more than
    two answers, with other judgements than comparisons of them, with a tie or judges at odds, or whose very pictures
    stand on both sides.
    """

    type: Literal["pair_flips"] = "pair_flips"
    modality: Modality | None = Field(
        default="image-text", description="For the records of this modality; null is both."
    )

    def apply(self, view: View, seed: int) -> None:
        free_N = self.subjects(view) & ~view["flip"].any(axis=1)
        splits = view.split
        sides: dict[bytes, tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]] = {}
        for index, row in zip(np.flatnonzero(free_N).tolist(), view.rows(free_N), strict=True):
            side = _side(row)
            if side is not None:
                asked = [row["source"], str(splits[index]), _asked(row)]
                key = hash16(json.dumps(asked, sort_keys=True))
                shown = hash16(json.dumps([image["sha256"] for image in row["images"]]))
                sides.setdefault(key, ([], []))[side].append((index, shown))
        pairs = [pair for both in sides.values() for pair in _matched(*both)]
        view.pair(*np.array(pairs, np.int64).reshape(-1, 2).T)


def _side(row: dict[str, Any]) -> int | None:
    """0 where of the two answers the one whose text sorts first is better, else 1; None where it can't be in a pair."""
    texts = [response["text"] for response in row["responses"]]
    others = any(row.get(name) for name in ("ratings", "rankings", "corrections", "critiques"))
    if not row["images"] or len(texts) != 2 or texts[0] == texts[1] or others or not row["comparisons"]:
        return None
    better = {comparison["better"] for comparison in row["comparisons"]}
    if len(better) > 1 or any(comparison.get("tie") for comparison in row["comparisons"]):
        return None
    return int(texts[better.pop()] == max(texts))


def _asked(row: dict[str, Any]) -> list[Any]:
    """What both records of a pair must have: prompt, answers, and on what these were compared, how often."""
    texts = sorted(response["text"] for response in row["responses"])
    return [row["prompt"], texts, sorted(comparison["objective"] for comparison in row["comparisons"])]


def _matched(one: list[tuple[int, bytes]], other: list[tuple[int, bytes]]) -> list[tuple[int, int]]:
    """The k-th of one side with the k-th of the other, without those whose pictures stand on both."""
    both = {shown for _, shown in one} & {shown for _, shown in other}
    left = [[index for index, shown in side if shown not in both] for side in (one, other)]
    return list(zip(*left, strict=False))
