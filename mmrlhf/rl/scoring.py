"""From rewards to advantages: scores, penalties, each token's reward, and what the algorithm makes of them. Pure
functions of all processes' outcomes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data_tools.config import plugin_name
from data_tools.errors import RunError, UserError
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.objectives.base import is_ours, raised
from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.rl.advantages import token_rewards
from mmrlhf.rl.algorithms import AlgorithmBase, Scored
from mmrlhf.rl.kl import ESTIMATORS
from mmrlhf.tensors import masked_sum, whiten
from mmrlhf.types import Outcomes, Rewards

AGREE = 1e-5  # log-probs of two forwards that differ by no more than this share of their size (of 1, if it is less)


def scalarize(scalarizer: ScalarizerBase, seen: Rewards) -> Tensor:
    """Scores (B,). `seen` are the rewards as the scalarizer combines them (`ScalarizerBase.seen`): bounded before and
    not after, since a scalarizer may be centred elsewhere than at 0.

    Raises:
        RunError: a scalarizer of the user's raises, or gives anything but a finite number an answer.
    """
    name = f"scalarizer {plugin_name(scalarizer)}"
    try:
        with torch.no_grad():
            scores_B = scalarizer.combine(seen)
    except (RunError, UserError):
        raise
    except Exception as error:
        if is_ours(scalarizer):
            raise
        raise raised(name, "combine", error) from error
    _check(name, "one score an answer", scores_B, (len(seen.mean_BK),))
    return scores_B.detach()


def slopes(scalarizer: ScalarizerBase, seen: Rewards) -> Tensor:
    """The derivatives of the scores by the rewards (B, K): for a weighted sum its weights."""
    seen_BK = seen.mean_BK.detach().requires_grad_(True)
    with torch.enable_grad():
        scores_B = scalarizer.combine(replace(seen, mean_BK=seen_BK))
        (weights_BK,) = torch.autograd.grad(scores_B.sum(), seen_BK)
    return weights_BK


def score_tokens(
    outcomes: Outcomes,
    scalarizer: ScalarizerBase,
    seen: Rewards,
    scores_B: Tensor,
    config: PpoConfig,
    kl_coef: float,
) -> Scored:
    """What an algorithm turns into advantages: the scores less the penalties, spread over tokens.

    With `kl_in: reward` each token's reward has its KL penalty, and an answer's score that of all its tokens, so that
    algorithms which compare whole answers have it too. With a critic an objective each learns that objective's rewards
    alone, as they were combined (`seen`), and the penalties have a critic of their own.
    """
    mask_BT = outcomes.mask_BT
    penalty_B = config.missing_eos_penalty * ~outcomes.ended_B
    penalty_B = penalty_B + config.length_penalty * mask_BT.sum(1) / config.max_answer_tokens
    logprobs_BT, ref_BT = outcomes.logprobs_BT, outcomes.ref_logprobs_BT
    # log-probs that agree but for rounding, as before the first update, are no KL; normalised, it would look like one
    agree_BT = (logprobs_BT - ref_BT).abs() <= AGREE * logprobs_BT.abs().clamp(min=1)
    kl_BT = ESTIMATORS[config.kl_estimator](logprobs_BT, ref_BT, mask_BT).masked_fill(agree_BT, 0.0)
    coef = kl_coef if config.kl_in == "reward" else 0.0
    scores_B, weights_BK = scores_B - penalty_B, torch.ones(len(mask_BT), 1)
    if config.algorithm.critic_an_objective:
        parts = [token_rewards(rewards_B, kl_BT, 0.0, mask_BT) for rewards_B in seen.mean_BK.unbind(1)]
        parts.append(token_rewards(-penalty_B, kl_BT, coef, mask_BT))
        weights_BK = torch.cat([slopes(scalarizer, seen), weights_BK], 1)
    else:
        if config.whiten_rewards:
            scores_B = whiten(scores_B, torch.ones_like(scores_B, dtype=torch.bool))
        parts = [token_rewards(scores_B, kl_BT, coef, mask_BT)]
    return Scored(
        scores_B=scores_B - coef * masked_sum(kl_BT, mask_BT, dim=1),
        rewards_BTK=torch.stack(parts, -1),
        values_BTK=outcomes.values_BTK,
        weights_BK=weights_BK,
        mask_BT=mask_BT,
        group_B=outcomes.group_B,
        scaled_groups=scalarizer.scales_groups,
    )


def learning_critics(algorithm: AlgorithmBase, judged_BK: Tensor) -> Tensor | None:
    """Which critics learn from an answer: bool (B, K). One of an objective doesn't where that wasn't judged, and that
    of the penalties always does. None: there is one critic, or none, which does too."""
    if not algorithm.critic_an_objective:
        return None
    return torch.cat([judged_BK, torch.ones_like(judged_BK[:, :1])], 1)


def compute_advantages(algorithm: AlgorithmBase, scored: Scored) -> tuple[Tensor, Tensor | None]:
    """The algorithm's advantages (B, T), and returns (B, T, K) where it has a critic.

    Raises:
        RunError: an algorithm of the user's raises, or gives anything else.
    """
    name = f"algorithm {plugin_name(algorithm)}"
    try:
        made = algorithm.advantages(scored)
    except Exception as error:
        if is_ours(algorithm):
            raise
        raise raised(name, "advantages", error) from error
    if not isinstance(made, tuple) or len(made) != 2:
        raise RunError(
            f"{name}: advantages gave {type(made).__name__}, where a pair was asked for: advantages (B, T), and "
            "returns (B, T, K), or None without a critic"
        )
    advantages_BT, returns_BTK = made
    shape = tuple(scored.mask_BT.shape)
    _check(name, "advantages (B, T)", advantages_BT, shape)
    if algorithm.has_critic:
        _check(
            name,
            "returns (B, T, K), since it has a critic",
            returns_BTK,
            (*shape, scored.weights_BK.shape[1]),
        )
    elif returns_BTK is not None:
        raise RunError(
            f"{name}: gave returns, and has no critic to learn them; has_critic says whether it has"
        )
    return advantages_BT, returns_BTK


def _check(name: str, what: str, values: Tensor | None, shape: tuple[int, ...]) -> None:
    if not isinstance(values, Tensor) or tuple(values.shape) != shape:
        gave = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise RunError(f"{name}: gave {gave} where {what} of shape {shape} were asked for")
    if not values.isfinite().all():
        raise RunError(f"{name}: {what}: {int((~values.isfinite()).sum())} of {values.numel()} aren't finite")
