"""Terms that make a reward come from the picture, not from what the text gives away: pure functions of rewards.

Gradients reach every argument unless a docstring says otherwise. How they are put together, and which rows they need,
is `training/grounding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from data_tools.schema import PreferenceRecord

BOTH_LEARNT = 1e-6  # a loss so small that a pair counts as learnt, with the image or without
SMALL_GAP = 0.1  # rewards that differ by less have little to correlate


@dataclass(frozen=True)
class CrossPair:
    """One answer under two pictures: (record of the unit, response) with the picture that it fits, and with the other."""

    objective: str
    better: tuple[int, int]
    worse: tuple[int, int]


def cross_pairs(unit: Sequence[PreferenceRecord]) -> list[CrossPair]:
    """What an image-flip pair says beside its own comparisons: the answer that wins under one picture, and loses under
    the other on the same objective, is better under the first. For captions a and b of pictures A and B: (a, A) over
    (a, B), and (b, B) over (b, A).

    Answers are the same by their text, wherever they stand. Empty for a unit that isn't two records.
    """
    if len(unit) != 2:
        return []
    found = []
    for one, other in ((0, 1), (1, 0)):
        loses = {
            (c.objective, unit[other].responses[c.worse].text): c.worse
            for c in unit[other].comparisons
            if not c.tie
        }
        for c in unit[one].comparisons:
            worse = loses.get((c.objective, unit[one].responses[c.better].text))
            if worse is not None and not c.tie:
                found.append(CrossPair(c.objective, (one, c.better), (other, worse)))
    return found


def prefer_picture(right_N: Tensor, other_N: Tensor) -> Tensor:
    """-log sigma(r(answer, its own picture) - r(the same answer, another picture)): (N,).

    Bradley-Terry across two rows with one answer: both have the same words, so only looking lowers it. With a degraded
    picture as the other it is the conditional preference of mDPO (Wang et al. 2024, "mDPO: Conditional Preference
    Optimization for Multimodal Large Language Models", eq. 6) for an explicit reward; without its anchor on the
    better answer's reward, since a reward, unlike a policy's log-ratio, has no zero to be anchored to.
    """
    return -F.logsigmoid(right_N - other_N)


def shortcut_weights(blind_N: Tensor, seeing_N: Tensor, mean: float) -> Tensor:
    """w / mean with w = L_blind / (L_blind + L_seeing), the share of a pair's loss that the text alone leaves: (N,),
    without gradient.

    Li et al. 2025, "The Devil Is in the Details: Tackling Unimodal Spurious Correlations for Generalizable Multimodal
    Reward Models": a pair that a text-only branch gets right teaches the shortcut, one that it gets wrong shows where
    the shortcut fails. `mean` is the mean of w over pairs like these, so that the weights have a mean of about 1 and
    the step doesn't shrink. Where both losses vanish w is 1/2.
    """
    blind, seeing = blind_N.detach() + BOTH_LEARNT, seeing_N.detach() + BOTH_LEARNT
    return blind / (blind + seeing) / mean


def length_penalty(gap_N: Tensor, length_N: Tensor) -> Tensor:
    """c^2, where c correlates the reward gaps of pairs with their length gaps: a scalar in [0, 1).

    c = sum(g l) / sqrt((sum(g^2) + 0.01 N) sum(l^2)): each pair is taken in both orders, so no mean is subtracted, and
    which answer stands first means nothing. The 0.01 keeps gaps that are hardly there, as before the first step, from
    having a steep gradient. Chen et al. 2024 ("ODIN: Disentangled Reward Mitigates Hacking in RLHF") penalise |c|, of
    rewards and not of gaps, on a head beside one that may follow length; here there is no such head. 0 where all lengths
    are equal.
    """
    along = (gap_N * length_N).sum() ** 2
    across = ((gap_N**2).sum() + SMALL_GAP**2 * len(gap_N)) * (length_N**2).sum()
    return along / across.clamp(min=1e-12)
