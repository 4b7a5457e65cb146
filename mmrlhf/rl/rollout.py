"""Rollouts: sampled answers, scored on every objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmrlhf.config import PpoConfig
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.vlm import VLM, decode
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.rewards.swap import swap_images
from mmrlhf.types import EncodedPrompt, Rollout, Row


def roll_out(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    reward_model: RewardModel,
    scalarizer: ScalarizerBase,
    config: PpoConfig,
) -> Rollout:
    """Samples answers to each prompt and scores them; draws from torch's global generator."""
    times = config.answers_per_prompt
    answers = generate(
        vlm, prompts, config.max_answer_tokens, config.temperature, config.generate_batch_size, times
    )
    asked = [prompt for prompt in prompts for _ in range(times)]
    texts = [decode(vlm, ids) for ids in answers]
    rewards_BK, judged_BK = score_texts(reward_model, asked, texts, config.micro_batch_size)
    scores_B, weights_BK = scalarize(
        scalarizer, rewards_BK, judged_BK, reward_model.card.objectives, config.score_clip
    )
    return Rollout(
        rows=tuple(Row(prompt, ids) for prompt, ids in zip(asked, answers, strict=True)),
        texts=tuple(texts),
        ended_B=torch.tensor([bool(len(ids)) and int(ids[-1]) in vlm.end_ids for ids in answers]),
        rewards_BK=rewards_BK,
        judged_BK=judged_BK,
        scores_B=scores_B,
        weights_BK=weights_BK,
        group_B=torch.arange(len(prompts)).repeat_interleave(times),
    )


def scalarize(
    scalarizer: ScalarizerBase, rewards_BK: Tensor, judged_BK: Tensor, objectives: Sequence[str], clip: float
) -> tuple[Tensor, Tensor]:
    """Scores (B,), and their derivatives by the rewards (B, K): for a weighted sum its weights.

    Rewards are clipped before they are combined, since a scalarizer may be centred elsewhere than at 0.
    """
    clipped_BK = rewards_BK.clamp(-clip, clip).requires_grad_(True)
    with torch.enable_grad():
        scores_B = scalarizer(clipped_BK, judged_BK, objectives)
        (weights_BK,) = torch.autograd.grad(scores_B.sum(), clipped_BK)
    return scores_B.detach(), weights_BK


def score_texts(
    reward_model: RewardModel,
    prompts: Sequence[EncodedPrompt],
    texts: Sequence[str],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Normalised rewards (B, K), 0 where an objective doesn't apply to such a prompt, and where it does: bool (B, K).

    The reward model reads prompt and answer with its own tokenizer and chat template.
    """
    judge = reward_model.vlm
    encoded = {
        id(prompt): encode_prompt(judge, prompt.record) for prompt in {id(p): p for p in prompts}.values()
    }
    rows = [
        Row(encoded[id(prompt)], encode_answer(judge, text))
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    judged_BK = reward_model.applies(rows)
    return reward_model.score(rows, batch_size).masked_fill(~judged_BK, 0.0), judged_BK


def swap_gap(
    reward_model: RewardModel, rollout: Rollout, batch_size: int, seed: int
) -> tuple[Tensor, Tensor]:
    """By how much each answer's rewards fall when it is read under another record's images: (B, K), and where that
    can be told: bool (B, K). A policy that learns to please without regard to the image closes this gap."""
    judge = reward_model.vlm
    prompts = list({id(row.prompt): row.prompt for row in rollout.rows}.values())
    swapped = dict(zip(map(id, prompts), swap_images([p.record for p in prompts], seed), strict=True))
    encoded = {key: encode_prompt(judge, record) for key, record in swapped.items() if record}
    told_B = torch.tensor([id(row.prompt) in encoded for row in rollout.rows])
    rows = [
        Row(encoded[id(row.prompt)], encode_answer(judge, text))
        for row, text in zip(rollout.rows, rollout.texts, strict=True)
        if id(row.prompt) in encoded
    ]
    gap_BK = torch.zeros_like(rollout.rewards_BK)
    if rows:
        gap_BK[told_B] = rollout.rewards_BK[told_B] - reward_model.score(rows, batch_size)
    judged_BK = rollout.judged_BK & told_B.unsqueeze(1)
    return gap_BK.masked_fill(~judged_BK, 0.0), judged_BK
