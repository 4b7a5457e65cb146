"""The blind probe: how likely the first answer is the better one, as far as words tell.

For each modality, objective and source a logistic regression without intercept on `features.differences`: swapping the
answers turns the sign, so p(A, B) = 1 - p(B, A) whatever it has learnt. It is fitted once for each fold, without the
pairs of the fold and all that hangs together with them. It is a small reader: a language model may find more, so what
it finds is at least what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_tools.audits.features import differences
from data_tools.audits.folds import FOLDS, folds_of, groups_of
from data_tools.audits.pairs import Pair
from data_tools.intervals import Floats, Ints

Task = tuple[str, str, str]  # modality, objective, source
FEWEST = 10  # groups: of fewer nothing is learnt
BATCH = 2000  # pairs whose features are held at a time, where it is applied


@dataclass(frozen=True)
class BlindProbe:
    """Fitted on a sample of pairs; tells of any pair without having seen it.

    `out_of_fold` belongs to the sample, in its order: the probability that the first answer is the better one; NaN
    where a task has too few groups. `weights` has a row of columns for each fold of a task.
    """

    out_of_fold: Floats
    weights: dict[Task, NDArray[np.float32]]
    _fold_of: dict[tuple[Task, int], int]

    def probability(self, pairs: Sequence[Pair]) -> Floats:
        """For each pair how likely its first answer is the better one, `BATCH` pairs at a time; NaN for a task that it
        wasn't fitted on.

        A pair that shares an image, a prompt, a flip pair or a group with the sample is judged by the fold that was
        fitted without those; one that hangs together with several folds by these, and any other by all, on the average
        of their logits.
        """
        found = np.full(len(pairs), np.nan)
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            known = [i for i, pair in enumerate(batch) if task_of(pair) in self.weights]
            if known:
                features = differences([batch[i] for i in known])
                for row, i in enumerate(known):
                    task = task_of(batch[i])
                    folds = self._folds(batch[i], task)
                    logits = self.weights[task][folds] @ features[[row]].T
                    found[start + i] = _sigmoid(np.mean(logits))
        return found

    def _folds(self, pair: Pair, task: Task) -> list[int]:
        folds = {self._fold_of.get((task, link)) for link in (*pair.links, *pair.questions)} - {None}
        return sorted(fold for fold in folds if fold is not None) or list(range(len(self.weights[task])))


def task_of(pair: Pair) -> Task:
    """What one probe is fitted to: pairs of one modality, objective and source."""
    return pair.modality, pair.objective, pair.source


def fit(pairs: Sequence[Pair], groups: Ints | None = None, seed: int = 0) -> BlindProbe:
    """A probe for every task of the pairs; `groups` are those of `folds.groups_of`, found here if not given. The same
    pairs and seed give the same probe."""
    groups = groups_of(pairs) if groups is None else groups
    out = np.full(len(pairs), np.nan)
    weights: dict[Task, NDArray[np.float32]] = {}
    fold_of: dict[tuple[Task, int], int] = {}
    tasks: dict[Task, list[int]] = {}
    for index, pair in enumerate(pairs):
        tasks.setdefault(task_of(pair), []).append(index)
    for task, members in tasks.items():
        if len(set(groups[members].tolist())) < FEWEST:
            continue
        chosen = [pairs[i] for i in members]
        folds = folds_of(groups[members], seed, FOLDS)
        out[members], weights[task] = _cross_fitted(chosen, folds)
        shared: dict[int, set[int]] = {}
        for pair, fold in zip(chosen, folds.tolist(), strict=True):
            for link in (*pair.links, *pair.questions):
                shared.setdefault(link, set()).add(fold)
        # a phrase that is everywhere lies in several folds and binds to none
        fold_of |= {(task, link): min(found) for link, found in shared.items() if len(found) == 1}
    return BlindProbe(out, weights, fold_of)


def _cross_fitted(pairs: Sequence[Pair], folds: Ints) -> tuple[Floats, NDArray[np.float32]]:
    from sklearn.linear_model import LogisticRegression

    everything = differences(pairs)
    used = np.unique(everything.indices)  # most columns hold nothing, and would cost as much as the others
    features = everything[:, used]
    first = np.array([pair.better == 0 for pair in pairs])
    out = np.empty(len(pairs))
    weights = np.zeros((int(folds.max()) + 1, everything.shape[1]), dtype=np.float32)
    for fold in range(len(weights)):
        chosen = np.flatnonzero(folds != fold)
        # turned round so that every second one has its better answer first: the loss is the same, and both classes that
        # the library asks for are there, also where the data puts the better answer first
        target = np.arange(len(chosen)) % 2 == 0
        signs = np.where(target == first[chosen], 1, -1).astype(np.float32)
        model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=1000)
        model.fit(features[chosen].multiply(signs[:, None]).tocsr(), target)
        weights[fold, used] = model.coef_[0]
        out[folds == fold] = _sigmoid(features[folds == fold] @ weights[fold, used])
    return out, weights


def _sigmoid(logits: Floats) -> Floats:
    from scipy.special import expit

    return expit(np.asarray(logits, dtype=np.float64))
