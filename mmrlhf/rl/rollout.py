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
from mmrlhf.types import EncodedPrompt, Rollout, Row


def roll_out(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    reward_model: RewardModel,
    scalarizer: ScalarizerBase,
    config: PpoConfig,
) -> Rollout:
    """Samples an answer to each prompt and scores it; draws from torch's global generator."""
    answers = generate(vlm, prompts, config.max_answer_tokens, config.temperature, config.generate_batch_size)
    texts = [decode(vlm, ids) for ids in answers]
    rewards_BK, judged_BK = score_texts(reward_model, prompts, texts, config.micro_batch_size)
    # before they are combined: a scalarizer may be centred elsewhere than at 0
    clipped_BK = rewards_BK.clamp(-config.score_clip, config.score_clip)
    scores_B = scalarizer(clipped_BK, judged_BK, reward_model.card.objectives)
    return Rollout(
        rows=tuple(Row(prompt, ids) for prompt, ids in zip(prompts, answers, strict=True)),
        texts=tuple(texts),
        ended_B=torch.tensor([bool(len(ids)) and int(ids[-1]) in vlm.end_ids for ids in answers]),
        rewards_BK=rewards_BK,
        judged_BK=judged_BK,
        scores_B=scores_B,
    )


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
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        encoded = encode_prompt(judge, prompt.record)
        rows.append(Row(encoded, encode_answer(judge, text)))
    judged_BK = reward_model.applies(rows)
    return reward_model.score(rows, batch_size).masked_fill(~judged_BK, 0.0), judged_BK
