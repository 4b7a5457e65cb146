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


def scalarize(scalarizer: ScalarizerBase, seen: Rewards) -> tuple[Tensor, Tensor]:
    """Scores (B,), and their derivatives by the rewards (B, K): for a weighted sum its weights. `seen` are the rewards
    as the scalarizer combines them (`ScalarizerBase.seen`): bounded before and not after, since a scalarizer may be
    centred elsewhere than at 0.
    """
    seen_BK = seen.mean_BK.detach().requires_grad_(True)
    with torch.enable_grad():
        scores_B = scalarizer.combine(replace(seen, mean_BK=seen_BK))
        (weights_BK,) = torch.autograd.grad(scores_B.sum(), seen_BK)
    return scores_B.detach(), weights_BK


def score_tokens(
    outcomes: Outcomes,
    seen: Rewards,
    scores_B: Tensor,
    weights_BK: Tensor,
    config: PpoConfig,
    kl_coef: float,
) -> Scored:
    """What an algorithm turns into advantages: the scores less the penalties, spread over tokens.

    With a critic an objective each learns that objective's rewards alone, as they were combined (`seen`), and the
    penalties have a critic of their own.
    """
    mask_BT = outcomes.mask_BT
    penalty_B = config.missing_eos_penalty * ~outcomes.ended_B
    penalty_B = penalty_B + config.length_penalty * mask_BT.sum(1) / config.max_answer_tokens
    kl_BT = ESTIMATORS[config.kl_estimator](outcomes.logprobs_BT, outcomes.ref_logprobs_BT, mask_BT)
    coef = kl_coef if config.kl_in == "reward" else 0.0
    scores_B, ones_B1 = scores_B - penalty_B, torch.ones(len(mask_BT), 1)
    if getattr(config.algorithm, "critics", "single") == "per_objective":
        parts = [token_rewards(rewards_B, kl_BT, 0.0, mask_BT) for rewards_B in seen.mean_BK.unbind(1)]
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
