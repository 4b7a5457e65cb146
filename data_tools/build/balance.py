"""The balance of a config, put to the records of an index: which of them stay, and how often the mixture shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.balance.cells import Cell
from data_tools.balance.config import Balance
from data_tools.balance.solution import Solution
from data_tools.balance.solver import solve
from data_tools.hashes import mix
from data_tools.labels import LABEL_TYPES
from data_tools.parts.index import MODALITIES, Index
from data_tools.parts.units import luck, units

COMPARED = ("pair", "ranking")  # what counts as a comparison on its objective


@dataclass(frozen=True)
class Balanced:
    """Of N records: which go (a mask), how often an epoch of the mixture shows each, on the average, and the plan."""

    gone_N: np.ndarray
    repeat_N: np.ndarray
    solution: Solution


def balanced(
    index: Index, subject_N: np.ndarray, sources: Sequence[str], balance: Balance, seed: int
) -> Balanced:
    """Balances the records that the mask `subject_N` names; of all others each stays, and is shown once.

    Which units of a cell stay is decided by the seed and their ids alone, so neither by the order of the input nor by
    what else there is.

    Raises:
        UserError: a quota can't be met.
    """
    subject = index.only(subject_N)
    unit_M = units(subject)
    cell_M, cells = _cells(subject, unit_M, sources)
    solution = solve(cells, balance)
    gone_M, repeat_M = np.zeros(len(subject), bool), np.ones(len(subject))
    # by cell, then by luck, both records of a pair together
    order = np.lexsort((unit_M, luck(subject, seed, "balance"), cell_M))
    starts = np.searchsorted(cell_M[order], np.arange(len(cells) + 1))
    for number, draw in enumerate(solution.draws):
        members = order[starts[number] : starts[number + 1]]
        gone_M[members[draw.keep * draw.cell.size :]] = True
        # with `proportion` all of a source are shown alike: a cell of few units, of which an epoch's share is less than
        # one, has its turn in another epoch
        whole = balance.strategy == "proportion"
        repeat_M[members] = solution.repeats[draw.cell.source] if whole else draw.repeat
    gone_N, repeat_N = np.zeros(len(index), bool), np.ones(len(index))
    gone_N[subject_N], repeat_N[subject_N] = gone_M, repeat_M
    return Balanced(gone_N, repeat_N, solution)


def _cells(index: Index, unit_M: np.ndarray, sources: Sequence[str]) -> tuple[np.ndarray, list[Cell]]:
    """The number of each record's cell, and the cells."""
    said_M = _said(index)
    count = int(unit_M.max(initial=-1)) + 1
    said_U = np.zeros(count, np.uint64)
    # of a pair the two records' labels count apart: a type is counted once a record
    np.add.at(said_U, unit_M, mix(said_M))
    size_U = np.bincount(unit_M, minlength=count)
    shown_U, source_U = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    np.maximum.at(shown_U, unit_M, index["modality"].astype(np.uint64))
    source_U[unit_M] = index["source"]
    looks = np.stack([source_U, shown_U, size_U.astype(np.uint64), said_U])
    _, firsts, cell_U = np.unique(looks, axis=1, return_index=True, return_inverse=True)
    cell_U = cell_U.reshape(-1)
    units_C = np.bincount(cell_U, minlength=len(firsts))
    by_unit = np.argsort(unit_M, kind="stable")
    starts = np.searchsorted(unit_M[by_unit], firsts)
    cells = [
        _cell(
            index,
            by_unit[start : start + int(size_U[first])].tolist(),
            sources[int(source_U[first])],
            MODALITIES.index("image-text") == int(shown_U[first]),
            int(number),
        )
        for start, first, number in zip(starts.tolist(), firsts.tolist(), units_C, strict=True)
    ]
    return cell_U[unit_M], cells


def _said(index: Index) -> np.ndarray:
    """A number for each record, the same for those that a cell doesn't tell apart: they have as many comparisons on
    each objective, and labels of the same types. uint64
    """
    names = sorted({objective for _, objective in index.labels})
    types = np.array(
        [1 << LABEL_TYPES.index(kind) if kind in LABEL_TYPES else 0 for kind, _ in index.labels], np.uint64
    )
    codes = np.array(
        [names.index(objective) + 1 if kind in COMPARED else 0 for kind, objective in index.labels], np.uint64
    )
    owner, label = index["judgement_owner"], index["judgement_label"]
    has_M, compared_M = np.zeros(len(index), np.uint64), np.zeros(len(index), np.uint64)
    if len(label):
        np.bitwise_or.at(has_M, owner, types[label])
        # a sum of hashes: the same for the same objectives, each as often
        np.add.at(compared_M, owner, np.where(codes[label] > 0, mix(codes[label]), np.uint64(0)))
    return compared_M ^ mix(has_M + np.uint64(1))


def _cell(index: Index, records: list[int], source: str, shown: bool, number: int) -> Cell:
    """The cell of so many units like the one of these records."""
    judged = index.judged()
    objectives, labels = Counter[str](), Counter[str]()
    for record in records:
        said = [index.labels[label] for label in judged.labels(record)]
        objectives.update(objective for kind, objective in said if kind in COMPARED)
        labels.update({kind for kind, _ in said if kind in LABEL_TYPES})
    return Cell(
        source,
        "image-text" if shown else "text",
        tuple(sorted(objectives.items())),
        tuple(sorted(labels.items())),  # type: ignore[arg-type]  # the index's types are label types
        len(records),
        number,
    )
