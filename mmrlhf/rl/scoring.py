"""From rewards to what an algorithm is given: scores, penalties, and each token's reward. Pure functions of all
processes' outcomes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mmrlhf.config import PpoConfig
from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.rl.advantages import token_rewards
from mmrlhf.rl.algorithms import Scored
from mmrlhf.rl.kl import ESTIMATORS
from mmrlhf.tensors import whiten
from mmrlhf.types import Outcomes, Rewards


def scalarize(scalarizer: ScalarizerBase, rewards: Rewards, clip: float) -> tuple[Tensor, Tensor]:
    """Scores (B,), and their derivatives by the rewards (B, K): for a weighted sum its weights.

    Rewards are clipped before they are combined, since a scalarizer may be centred elsewhere than at 0.
    """
    clipped_BK = rewards.clipped(clip).mean_BK.requires_grad_(True)
    with torch.enable_grad():
        scores_B = scalarizer(replace(rewards, mean_BK=clipped_BK))
        (weights_BK,) = torch.autograd.grad(scores_B.sum(), clipped_BK)
    return scores_B.detach(), weights_BK


def score_tokens(
    outcomes: Outcomes, scores_B: Tensor, weights_BK: Tensor, config: PpoConfig, kl_coef: float
) -> Scored:
    """What an algorithm turns into advantages: the scores less the penalties, spread over tokens.

    With a critic an objective each learns that objective alone, and the penalties have a critic of their own.
    """
    mask_BT = outcomes.mask_BT
    penalty_B = config.missing_eos_penalty * ~outcomes.ended_B
    penalty_B = penalty_B + config.length_penalty * mask_BT.sum(1) / config.max_answer_tokens
    kl_BT = ESTIMATORS[config.kl_estimator](outcomes.logprobs_BT, outcomes.ref_logprobs_BT, mask_BT)
    coef = kl_coef if config.kl_in == "reward" else 0.0
    scores_B, ones_B1 = scores_B - penalty_B, torch.ones(len(mask_BT), 1)
    if getattr(config.algorithm, "critics", "single") == "per_objective":
        clipped_BK = outcomes.rewards_BK.clamp(-config.score_clip, config.score_clip)
        parts = [token_rewards(scores, kl_BT, 0.0, mask_BT) for scores in clipped_BK.unbind(1)]
        parts.append(token_rewards(-penalty_B, kl_BT, coef, mask_BT))
        weights_BK = torch.cat([weights_BK, ones_B1], 1)
    else:
        if config.whiten_rewards:
            scores_B = whiten(scores_B, torch.ones_like(scores_B, dtype=torch.bool))
        parts, weights_BK = [token_rewards(scores_B, kl_BT, coef, mask_BT)], ones_B1
    return Scored(
        scores_B=scores_B,
        rewards_BTK=torch.stack(parts, -1),
        values_BTK=outcomes.values_BTK,
        weights_BK=weights_BK,
        mask_BT=mask_BT,
        group_B=outcomes.group_B,
    )
