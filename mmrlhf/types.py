"""The nouns of the suite, one frozen record a stage.

Dimension suffixes, used everywhere: B responses of a batch, P prompts, T tokens, K objectives, D width. Tensors of
answers are padded on the right and come with a mask; image tensors stay per sample until a forward needs them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.tensors import hash_tensors

Sums = dict[str, tuple[Tensor | float, Tensor | float]]  # of a metric by name: a sum and its weight


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt as the model reads it."""

    record: PreferenceRecord
    input_ids: Tensor  # T, int64; image placeholders are already expanded to one a vision token
    token_fields: dict[str, Tensor] = field(
        default_factory=dict
    )  # name -> T: token types, where the family has them
    vision: dict[str, Tensor] = field(
        default_factory=dict
    )  # as the family's processor gives it for this sample
    asked_K: Tensor | None = None  # float32: what a scalarizer asked of the answers (`Rewards.asked_BK`)
    tells_weights: bool = (
        False  # the tokens tell asked_K too, which the record doesn't: not for a judge to read
    )

    @property
    def modality(self) -> Modality:
        """Whether the prompt shows an image."""
        return "image-text" if self.vision else "text"

    @functools.cached_property
    def vision_key(self) -> str:
        """A hash of everything that the family's processor made of the prompt's images; taken once, since no prompt
        ever changes."""
        return hash_tensors(sorted(self.vision.items()))


@dataclass(frozen=True)
class Row:
    """A prompt and one answer's tokens, the end token included where the answer ended."""

    prompt: EncodedPrompt
    answer_ids: Tensor  # T, int64


@dataclass(frozen=True)
class Layout:
    """Which tokens of rows that hold several answers belong to which (`models/prefix.py`)."""

    segment_RT: Tensor  # int64: 0 the prefix, 1, 2, ... the answers, -1 padding
    shift_RT: Tensor  # int64: how far each token's position lies behind where it would be in a row of its own

    def to(self, device: torch.device) -> Layout:
        """The layout on another device."""
        return Layout(self.segment_RT.to(device), self.shift_RT.to(device))


@dataclass(frozen=True)
class TokenBatch:
    """Answers collated for one forward: B of them in R rows, which are padded on the right."""

    inputs: dict[str, Tensor]  # what the model's forward takes
    prompts: tuple[EncodedPrompt, ...]  # R
    layout: Layout | None  # where answers to one prompt share a row
    row_B: Tensor  # the row each answer lies in
    answer_ids_BT: Tensor  # the answers' tokens, int64
    answer_mask_BT: Tensor  # bool, True at real tokens
    at_BT: Tensor  # the position, in its row, whose hidden state predicts each answer token
    last_B: Tensor  # the position of each answer's last real token (without any, of its prompt's)
    record_ids: tuple[str, ...]


@dataclass(frozen=True)
class ResponseLabels:
    """What was said of N single responses: their ratings, or yes or no."""

    response_N: Tensor  # index of the response
    objective_N: Tensor  # index of the objective
    value_N: Tensor  # float32: a rating as a share of its scale; of yes and no: 1 and 0
    weight_N: Tensor  # float32: how much it counts
    copies_NM: Tensor  # float32: how often each member of an ensemble meets it


@dataclass(frozen=True)
class RankingLabel:
    """One ranking of several responses."""

    order: tuple[tuple[int, ...], ...]  # groups of indices of responses, the best first; ties share a group
    objective: int  # index of the objective
    weight: float  # of each of its choices
    copies_M: Tensor  # float32: how often each member of an ensemble meets it

    @property
    def choices(self) -> int:
        """How many choices of the best of those left it takes: one less than there are responses."""
        return sum(map(len, self.order)) - 1


@dataclass(frozen=True)
class PairBatch:
    """Responses to score, and what was judged about them: N comparisons over B responses, and labels of other kinds."""

    rows: tuple[Row, ...]  # B
    better_N: Tensor  # index of the better response
    worse_N: Tensor  # index of the worse one
    objective_N: Tensor  # index of the objective
    tie_N: Tensor  # bool: the judge saw no difference
    margin_N: Tensor  # float32: by how much the better one should win at least, in units of reward
    weight_N: Tensor  # float32: how much it counts
    copies_NM: Tensor  # float32: how often each member of an ensemble meets it
    rankings: tuple[RankingLabel, ...]
    ratings: ResponseLabels
    binaries: ResponseLabels

    @property
    def weight(self) -> float:
        """What the batch's losses weigh together; each choice of a ranking as much as a comparison."""
        others = self.ratings.weight_N.sum() + self.binaries.weight_N.sum()
        ranked = sum(ranking.weight * ranking.choices for ranking in self.rankings)
        return float(self.weight_N.sum() + others) + ranked


@dataclass(frozen=True)
class Rewards:
    """What judges say of B answers on K objectives: all that a scalarizer sees."""

    objectives: tuple[str, ...]  # K names
    mean_BK: Tensor  # float32: normalised rewards, 0 where the objective was not judged
    judged_BK: Tensor  # bool: the objective applies to such a prompt
    std_BK: Tensor  # float32: how unsure the judge itself is (deviation over an ensemble); 0 where it doesn't tell
    gate_BK: Tensor | None = None  # weights that a learned gate reads off the prompt; rows sum to 1
    asked_BK: Tensor | None = (
        None  # weights that the prompt itself asks for (preference-conditioned policies)
    )
    group_B: Tensor | None = (
        None  # int64: answers to the same prompt have the same number; None: each its own
    )
    abstained_BK: Tensor | None = (
        None  # bool: it applies, and a judge had to give no reward; not judged then. None: all did
    )

    def select(self, index: Tensor) -> Rewards:
        """Those of some answers."""
        return Rewards(objectives=self.objectives, **_indexed(self, index))

    def clipped(self, most: float) -> Rewards:
        """With the rewards bounded to +- `most`."""
        return replace(self, mean_BK=self.mean_BK.clamp(-most, most))


@dataclass(frozen=True)
class Rollout:
    """Sampled answers of one process and what is known of them before any update."""

    rows: tuple[Row, ...]  # B
    texts: tuple[str, ...]  # B, decoded answers
    ended_B: Tensor  # bool: the answer ended with an end token
    rewards_BK: Tensor  # normalised rewards, 0 where the objective was not judged on such prompts
    judged_BK: Tensor  # bool: the objective applies
    std_BK: Tensor  # the judges' own uncertainty (`Rewards`)
    gate_BK: Tensor | None  # weights read off the prompt (`Rewards`)
    asked_BK: Tensor | None  # weights that the prompt asks for (`Rewards`)
    group_B: (
        Tensor  # int64: where its prompt stands in the step's batch; the same for all answers to a prompt
    )
    logprobs_BT: Tensor | None  # of each token when it was drawn; None where training's own may differ
    values_BTK: Tensor | None  # the critics' values at the same time
    abstained_BK: Tensor | None = None  # bool: judges that had to give no reward (`Rewards`)

    def rewards(self, objectives: Sequence[str]) -> Rewards:
        """What the judges said, for a scalarizer."""
        return _rewards_of(self, objectives)

    def only(self, index: Tensor) -> Rollout:
        """Some of the answers; tokens are padded to the longest of them."""
        rows = tuple(self.rows[i] for i in index.tolist())
        longest = max((len(row.answer_ids) for row in rows), default=0)
        kept = _indexed(self, index)
        for name in ("logprobs_BT", "values_BTK"):
            kept[name] = None if kept[name] is None else kept[name][:, :longest]
        return Rollout(rows=rows, texts=tuple(self.texts[i] for i in index.tolist()), **kept)


@dataclass(frozen=True)
class Outcomes:
    """Answers without their prompts and tokens: little enough for every process to know those of all.

    What compares answers or takes a mean over them (scalarizers, advantages, whitening, metrics) is a function of all
    processes' outcomes, so it doesn't depend on how many processes there are.
    """

    group_B: (
        Tensor  # int64: answers to the same prompt have the same number, in the order of the step's batch
    )
    image_B: Tensor  # bool: the prompt shows an image
    ended_B: Tensor  # bool: the answer ended with an end token
    rewards_BK: Tensor
    judged_BK: Tensor
    std_BK: Tensor
    gate_BK: Tensor | None
    asked_BK: Tensor | None
    mask_BT: Tensor  # bool, True at real answer tokens
    logprobs_BT: Tensor  # of the policy that sampled
    ref_logprobs_BT: Tensor
    values_BTK: Tensor | None  # before each token, by critic; None without critics

    def select(self, index: Tensor) -> Outcomes:
        """Those of some answers."""
        return Outcomes(**_indexed(self, index))

    def rewards(self, objectives: Sequence[str]) -> Rewards:
        """What the judges said, for a scalarizer."""
        return _rewards_of(self, objectives)


@dataclass(frozen=True)
class ExperienceBatch:
    """What the passes over a rollout train on."""

    rows: tuple[Row, ...]  # B
    mask_BT: Tensor  # bool, True at real answer tokens
    logprobs_BT: Tensor  # of the policy that sampled
    ref_logprobs_BT: Tensor
    advantages_BT: Tensor
    values_BTK: Tensor | None  # before each token, by critic; None without critics
    returns_BTK: Tensor | None
    learns_BK: Tensor | None = None  # bool: whether a critic learns from the answer; None: each does

    def select(self, index: list[int]) -> ExperienceBatch:
        """The experience of some rows."""
        chosen = torch.tensor(index, dtype=torch.int64)
        return ExperienceBatch(rows=tuple(self.rows[i] for i in index), **_indexed(self, chosen))


def _rewards_of(judged: Rollout | Outcomes, objectives: Sequence[str]) -> Rewards:
    return Rewards(
        objectives=tuple(objectives),
        mean_BK=judged.rewards_BK,
        judged_BK=judged.judged_BK,
        std_BK=judged.std_BK,
        gate_BK=judged.gate_BK,
        asked_BK=judged.asked_BK,
        group_B=judged.group_B,
    )


def _indexed(record: Any, index: Tensor) -> dict[str, Any]:
    """The tensors of a record at some places of their first dimension, and its fields that are None."""
    return {
        name: None if value is None else value[index]
        for name, value in vars(record).items()
        if value is None or isinstance(value, Tensor)
    }
