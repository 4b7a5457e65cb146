"""What the name of an answer tells: the model that wrote it, or the answer itself where the same few come again and
again, as "Yes." and "No." do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from data_tools.audits.base import AuditResult, Cell, Metric, Scope, Table
from data_tools.audits.sampled import PairAudit, SharedPairs, share
from data_tools.audits.words import against_chance
from data_tools.intervals import Floats, Ints

OFTEN = 10  # pairs of a task with an answer or a model, before a rule is made of it


class Model(PairAudit):
    """Who wrote it."""

    name: ClassVar[str] = "model"
    title: ClassVar[str] = "From who wrote it alone"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "model_accuracy": Metric(
            "share of pairs right by which model wrote each answer, where that is known and differs", base=0.5
        )
    }

    def finish(self) -> AuditResult:
        models = [(pair.models[0] or "", pair.models[1] or "") for pair in self.shared.pairs]
        return _named(
            self,
            models,
            "model_accuracy",
            "Who wrote it names the better answer",
        )


class Answer(PairAudit):
    """Which of a few answers."""

    name: ClassVar[str] = "answer"
    title: ClassVar[str] = "From the answer alone"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "answer_accuracy": Metric(
            "share of pairs right by how often the same answers are right elsewhere, where both come again and again",
            base=0.5,
        )
    }

    def finish(self) -> AuditResult:
        answers = [(pair.answers[0].strip(), pair.answers[1].strip()) for pair in self.shared.pairs]
        return _named(
            self,
            answers,
            "answer_accuracy",
            "The answer alone, whatever was asked, is the better one",
        )


def _named(audit: PairAudit, names: Sequence[tuple[str, str]], metric: str, says: str) -> AuditResult:
    """An audit by the names of the two answers' kinds: strengths of names (Bradley and Terry 1952) fitted to the other
    folds. A pair counts where its names differ and each is in `OFTEN` pairs or more; "" is no name."""
    shared = audit.shared
    scores = np.full(len(names), np.nan)
    rows = []
    for scope, members in shared.tasks.items():
        uses = Counter(name for i in members for name in set(names[i]) if name)
        known = {name: at for at, (name, number) in enumerate(uses.most_common()) if number >= OFTEN}
        chosen = np.array(
            [i for i in members if names[i][0] != names[i][1] and all(name in known for name in names[i])],
            dtype=np.int64,
        )
        if len(chosen):
            scores[chosen] = _strengths(shared, [names[i] for i in chosen], chosen, known)
            rows += _wins(shared, names, chosen, scope)
    accuracy = shared.shares(shared.right(scores))
    if not accuracy:
        return audit.result("There is nothing to go by: no two names are often set against each other.")
    wins = Table(
        "How often each is the better one",
        ("kind", "objective", "source", "which", "pairs", "better"),
        tuple(rows),
    )
    return audit.result(
        against_chance(accuracy, says),
        audit.findings(**{metric: accuracy}),
        tables=(audit.table("Accuracy", "", **{metric: accuracy}), wins),
        notes=shared.sample.notes(),
    )


def _strengths(
    shared: SharedPairs, names: Sequence[tuple[str, str]], members: Ints, known: Mapping[str, int]
) -> Floats:
    """Strength of the first name minus that of the second, from the other folds."""
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression

    folds = shared.folds(members)
    places = np.array([[known[one], known[other]] for one, other in names])
    values = np.tile([1.0, -1.0], len(names))
    design = csr_array(
        (values, places.ravel(), np.arange(0, 2 * len(names) + 1, 2)), shape=(len(names), len(known))
    )
    out = np.full(len(names), np.nan)
    for fold in np.unique(folds):
        chosen = np.flatnonzero(folds != fold)
        if len(chosen) >= 2:
            target = np.arange(len(chosen)) % 2 == 0
            signs = np.where(target == (shared.first[members[chosen]] == 1), 1, -1)
            model = LogisticRegression(C=1.0, fit_intercept=False, max_iter=1000, tol=1e-8)
            model.fit(design[chosen].multiply(signs[:, None]).tocsr(), target)
            # what is left of an exact draw by rounding is no preference
            out[folds == fold] = np.round(design[folds == fold] @ model.coef_[0], 6)
    return out


def _wins(
    shared: SharedPairs, names: Sequence[tuple[str, str]], members: Ints, scope: Scope
) -> list[tuple[Cell, ...]]:
    """The most frequent names of a task, each with the share of its pairs in which it is the better one."""
    held: dict[str, list[int]] = {}
    for i in members:
        for name in names[i]:
            held.setdefault(name, []).append(int(i))
    most = sorted(held, key=lambda name: (-len(held[name]), name))[:8]
    return [
        (
            scope.modality,
            scope.objective,
            scope.source,
            name if len(name) <= 60 else f"{name[:57]}...",
            len(held[name]),
            share(
                np.array([float(names[i][shared.pairs[i].better] == name) for i in held[name]]),
                shared.groups[held[name]],
            ),
        )
        for name in most
    ]
