"""Terms that make a reward come from the picture, not from what the text gives away: pure functions of rewards, and of
what records judge.

How they are put together, and which rows they need, is `training/grounding.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from data_tools.schema import Comparison, PreferenceRecord

BOTH_LEARNT = 1e-6  # a loss so small that a pair counts as learnt, with the image or without
SMALL_GAP = 0.1  # rewards that differ by less have little to correlate


@dataclass(frozen=True)
class CrossPair:
    """One answer under two pictures, the one that it fits and the other: (record of the unit, response) of each."""

    objective: str
    better: tuple[int, int]
    worse: tuple[int, int]


def decided(record: PreferenceRecord) -> Iterator[Comparison]:
    """What a record judges of two responses, in its rankings too, without ties."""
    return (comparison for comparison in record.pairs() if not comparison.tie)


def winners(record: PreferenceRecord, objective: str) -> list[int]:
    """The responses that were judged better than another on the objective, and worse than none."""
    own = [comparison for comparison in decided(record) if comparison.objective == objective]
    return sorted({comparison.better for comparison in own} - {comparison.worse for comparison in own})


def cross_pairs(unit: Sequence[PreferenceRecord]) -> list[CrossPair]:
    """What an image-flip pair says beside its own comparisons: the answer that wins under one picture, and loses under
    the other on the same objective, is better under the first. For captions a and b of pictures A and B: (a, A) over
    (a, B), and (b, B) over (b, A).

    Answers are the same by their text, wherever they stand. Empty for a unit that isn't two records.
    """
    if len(unit) != 2:
        return []
    found: dict[CrossPair, None] = {}
    for one, other in ((0, 1), (1, 0)):
        loses = {(c.objective, unit[other].responses[c.worse].text): c.worse for c in decided(unit[other])}
        for c in decided(unit[one]):
            worse = loses.get((c.objective, unit[one].responses[c.better].text))
            if worse is not None:
                found[CrossPair(c.objective, (one, c.better), (other, worse))] = None
    return list(found)


def prefer_picture(right: Tensor, other: Tensor) -> Tensor:
    """-log sigma(r(answer, its own picture) - r(the same answer, another picture)), element by element.

    Bradley-Terry across two rows with one answer: both have the same words, so only looking lowers it. With a degraded
    picture as the other it is the conditional preference of mDPO (Wang et al. 2024, "mDPO: Conditional Preference
    Optimization for Multimodal Large Language Models") with an explicit reward in place of a policy's log-ratio;
    without its anchor, which keeps the better answer's log-ratio above 0, since a reward has no such zero.
    """
    return -F.logsigmoid(right - other)


def shortcut_weights(blind_N: Tensor, seeing_N: Tensor) -> Tensor:
    """w = L_blind / (L_blind + L_seeing), from the losses of each pair without its image and with it: (N,), in [0, 1],
    without gradient.

    The shortcut-failure coefficient of Li et al. 2025 ("The Devil Is in the Details: Tackling Unimodal Spurious
    Correlations for Generalizable Multimodal Reward Models"): a pair that a text-only branch gets right teaches the
    shortcut, one that it gets wrong shows where the shortcut fails. Where both losses vanish w is 1/2. Divide by the
    mean of w, so that the weights have a mean of 1 and the step doesn't shrink.
    """
    blind, seeing = blind_N.detach() + BOTH_LEARNT, seeing_N.detach() + BOTH_LEARNT
    return blind / (blind + seeing)


def length_sums(gap_NM: Tensor, length_N: Tensor) -> Tensor:
    """Of N pairs, from the gaps between their rewards and between their lengths: the sums of g l, g^2 and l^2, and N:
    (M, 4), float64. What `length_correlation` and `length_penalty` are told of."""
    gap_NM, length_N1 = gap_NM.double(), length_N.double().unsqueeze(1)
    parts = (gap_NM * length_N1, gap_NM**2, (length_N1**2).expand_as(gap_NM), torch.ones_like(gap_NM))
    return torch.stack([part.sum(0) for part in parts], -1)


def length_correlation(sums_M4: Tensor) -> Tensor:
    """c = sum(g l) / sqrt((sum(g^2) + 0.01 N) sum(l^2)), of each member: (M,), in (-1, 1); 0 of no pairs, or where all
    lengths are equal.

    Each pair is taken in both orders, so no mean is subtracted, and which answer stands first means nothing. The 0.01
    keeps gaps that are hardly there, as before the first step, from counting as deviations.
    """
    return sums_M4[:, 0] / _scale(sums_M4)


def length_penalty(gap_NM: Tensor, length_N: Tensor, sums_M4: Tensor) -> Tensor:
    """2 c g l / sqrt((mean(g^2) + 0.01) mean(l^2)), pair by pair: (N, M), with c and the means of earlier pairs
    (`length_sums`).

    Its slope is that of c^2 with the deviations held still: it pulls at what gaps have in common with lengths, and not
    at the gap of a pair whose answers are as long as each other, nor at any gap where rewards don't follow length.
    Held still, since a smaller share of a larger reward is no way out. Its mean over such pairs is 2 c^2. Chen et al.
    2024 ("ODIN: Disentangled Reward Mitigates Hacking in RLHF") penalise |c| of rewards and lengths in a batch, on a
    head beside one that may follow length; here there is no such head.
    """
    slope_M = 2 * sums_M4[:, 3] * length_correlation(sums_M4) / _scale(sums_M4)
    return slope_M.to(gap_NM) * gap_NM * length_N.unsqueeze(1)


def _scale(sums_M4: Tensor) -> Tensor:
    gaps_M, lengths_M, pairs_M = sums_M4[:, 1:].unbind(-1)
    return ((gaps_M + SMALL_GAP**2 * pairs_M) * lengths_M).sqrt().clamp(min=1e-6)
