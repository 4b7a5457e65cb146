"""Answers that `max_answer_tokens` cuts: how many there are, and what was judged between answers of which the cut
leaves the same tokens. Such a judgement teaches nothing, so it is left out and counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from data_tools.errors import PromptRefused, UserError
from data_tools.labels import Ranking
from data_tools.schema import PreferenceRecord
from mmrlhf.models.vlm import VLM
from mmrlhf.terminal import console
from mmrlhf.types import Row, Sums


class SameAnswers(PromptRefused):
    """A record of which all that could be learnt is a choice between answers with the same tokens."""

    remedy = "raise max_answer_tokens, or leave records out whose answers are the same"


def check_room(vlm: VLM, most: int) -> None:
    """Sees that answers of `most` tokens hold a word.

    Raises:
        UserError: what the chat template writes before each answer takes all of them.
    """
    lead = len(vlm.tokenizer(vlm.answer_lead, add_special_tokens=False)["input_ids"])
    if most <= lead:
        raise UserError(
            f"max_answer_tokens: {most} leaves no room for a word of an answer, since {vlm.path} begins each with "
            f"{vlm.answer_lead!r} ({lead} tokens)"
        )


def is_cut(vlm: VLM, row: Row) -> bool:
    """Whether an answer lacks its end."""
    return not len(row.answer_ids) or int(row.answer_ids[-1]) != vlm.end_id


def without_same(record: PreferenceRecord, rows: Sequence[Row]) -> PreferenceRecord:
    """The record without comparisons of two responses that have the same tokens, a row of `rows` each.

    In a ranking, responses with the same tokens that stand in places next to each other, and alone there, are one; a
    ranking that places the same tokens above and below another response, or holds one place alone, is left out.
    """
    tokens = [tuple(row.answer_ids.tolist()) for row in rows]
    if len(set(tokens)) == len(tokens):
        return record
    kept = (_without_same(ranking, tokens) for ranking in record.rankings)
    return dataclasses.replace(
        record,
        comparisons=tuple(c for c in record.comparisons if tokens[c.better] != tokens[c.worse]),
        rankings=tuple(ranking for ranking in kept if ranking is not None),
    )


def _without_same(ranking: Ranking, tokens: Sequence[tuple[int, ...]]) -> Ranking | None:
    places: dict[tuple[int, ...], list[int]] = {}
    for place, group in enumerate(ranking.order):
        for response in group:
            places.setdefault(tokens[response], []).append(place)
    order = [list(group) for group in ranking.order]
    for same, at in places.items():
        first, last = at[0], at[-1]
        if first == last:
            continue  # one response, or ties
        between = [response for group in ranking.order[first : last + 1] for response in group]
        if any(tokens[response] != same for response in between):
            return None
        order[first] = order[first][:1]
        order[first + 1 : last + 1] = [[] for _ in range(first, last)]
    groups = tuple(tuple(group) for group in order if group)
    return dataclasses.replace(ranking, order=groups) if len(groups) > 1 else None


class CutAnswers:
    """Counts what a limit on answers does to each step, and tells of it once."""

    def __init__(self, vlm: VLM, what: str, most: int, end: str = "") -> None:
        """`what` says whose answers they are, `most` is `max_answer_tokens`; `end` goes behind the metrics' names."""
        self.vlm, self.what, self.most, self.end = vlm, what, most, end
        self._told = False
        self._cut, self._answers, self._same, self._choices = 0, 0, 0, 0

    def add(self, rows: Iterable[Row]) -> None:
        """Counts answers of the step."""
        for row in rows:
            self._answers += 1
            self._cut += is_cut(self.vlm, row)
        if self._cut and not self._told:
            self._told = True
            console.print(
                f"{self.what}: answers of more than max_answer_tokens = {self.most} tokens are cut; the metric "
                f"cut{self.end} is their share",
                style="yellow",
                markup=False,
            )

    def compare(self, before: PreferenceRecord, after: PreferenceRecord) -> None:
        """Counts what `without_same` left out of a record."""
        choices = [len(record.comparisons) + len(record.rankings) for record in (before, after)]
        self._choices += choices[0]
        self._same += choices[0] - choices[1]

    def take_metrics(self) -> Sums:
        """The step's `cut`, a share of its answers, and `same_answers`, a share of its comparisons and rankings."""
        sums: Sums = {f"cut{self.end}": (self._cut, self._answers)}
        if self._choices:
            sums[f"same_answers{self.end}"] = (self._same, self._choices)
        self._cut, self._answers, self._same, self._choices = 0, 0, 0, 0
        return sums
