"""Rollouts: sampled answers, scored on every objective."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from data_tools.images import ImageError
from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.models.generate import Sample, sample
from mmrlhf.models.vlm import VLM, decode
from mmrlhf.rewards.model import RewardModel
from mmrlhf.tensors import pad_right
from mmrlhf.types import EncodedPrompt, Rewards, Rollout, Row


def roll_out(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    places: Sequence[int],
    draws: Tensor,
    reward_model: RewardModel,
    config: PpoConfig,
    values: Callable[[Tensor], Tensor] | None = None,
    keep_logprobs: bool = False,
) -> Rollout:
    """Samples answers to each prompt and scores them.

    `places` are the prompts' numbers in the step's batch, `draws` decide the tokens (`generate.sample`). With
    `keep_logprobs` what was known while sampling is kept: log-probs, and the `values` of hidden states.
    """
    times = config.answers_per_prompt
    samples = sample(
        vlm,
        prompts,
        config.max_answer_tokens,
        draws,
        config.temperature,
        config.generate_batch_size,
        times,
        values if keep_logprobs else None,
    )
    asked = [prompt for prompt in prompts for _ in range(times)]
    texts = [decode(vlm, answer.ids) for answer in samples]
    reader = vlm if reward_model.reads_like(vlm) else None
    rewards = score_texts(
        reward_model,
        asked,
        texts,
        config.micro_batch_size,
        config.micro_batch_tokens,
        reader,
        finite=False,
    )
    return Rollout(
        rows=tuple(Row(prompt, answer.ids) for prompt, answer in zip(asked, samples, strict=True)),
        texts=tuple(texts),
        ended_B=torch.tensor([int(answer.ids[-1]) in vlm.end_ids for answer in samples], dtype=torch.bool),
        rewards_BK=rewards.mean_BK,
        judged_BK=rewards.judged_BK,
        std_BK=rewards.std_BK,
        gate_BK=rewards.gate_BK,
        asked_BK=_asked(asked),
        group_B=torch.tensor(places, dtype=torch.int64).repeat_interleave(times),
        logprobs_BT=pad_right([answer.logprobs for answer in samples]) if keep_logprobs and samples else None,
        values_BTK=_values(samples) if keep_logprobs and values else None,
    )


def _values(samples: Sequence[Sample]) -> Tensor | None:
    reads = [answer.read for answer in samples if answer.read is not None]
    return torch.nn.utils.rnn.pad_sequence(reads, batch_first=True) if reads else None


def _asked(prompts: Sequence[EncodedPrompt]) -> Tensor | None:
    """What the scalarizer asked of each answer: (B, K); None where it asks nothing."""
    asked = [prompt.asked_K for prompt in prompts if prompt.asked_K is not None]
    return torch.stack(asked) if asked else None


def without_broken_rewards(rollout: Rollout) -> tuple[Rollout, list[str]]:
    """The rollout without answers of which a reward isn't finite, and what to say of each of these.

    A head that gives NaN for one row (an overflow, a damaged picture) says nothing of the others.
    """
    fine_B = (rollout.rewards_BK.isfinite() | ~rollout.judged_BK).all(1)
    if fine_B.all():
        return rollout, []
    broken = [
        f"record {rollout.rows[i].prompt.record.id}: its answer got the rewards "
        f"{', '.join(f'{value:g}' for value in rollout.rewards_BK[i].tolist())}"
        for i in (~fine_B).nonzero().flatten().tolist()
    ]
    index = fine_B.nonzero().flatten()
    kept: dict[str, Any] = {
        name: value[index] if isinstance(value, Tensor) else value for name, value in vars(rollout).items()
    }
    kept |= {name: tuple(kept[name][i] for i in index.tolist()) for name in ("rows", "texts")}
    longest = max((len(row.answer_ids) for row in kept["rows"]), default=0)
    for name in ("logprobs_BT", "values_BTK"):  # the longest answer may be among those that are gone
        kept[name] = None if kept[name] is None else kept[name][:, :longest]
    return Rollout(**kept), broken


def score_texts(
    reward_model: RewardModel,
    prompts: Sequence[EncodedPrompt],
    texts: Sequence[str],
    batch_size: int,
    batch_tokens: int | None = None,
    reader: VLM | None = None,
    finite: bool = True,
) -> Rewards:
    """What the reward model says of answers.

    The reward model reads prompt and answer with its own tokenizer and chat template. `reader` is a model that the
    prompts were encoded for and that reads as the reward model does, so that they serve both (but for prompts that tell
    weights, of which a judge must know nothing: those are read from their records).

    Raises:
        NonFiniteReward: a reward isn't finite, unless `finite` is False.
    """
    judge = reward_model.vlm
    encoded = {
        key: prompt if reader and not prompt.tells_weights else encode_prompt(judge, prompt.record)
        for key, prompt in {id(p): p for p in prompts}.items()
    }
    rows = [
        Row(encoded[id(prompt)], encode_answer(judge, text))
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    return reward_model.judge(rows, batch_size, finite=finite, micro_batch_tokens=batch_tokens)


def swap_gap(
    reward_model: RewardModel, rollout: Rollout, swapped: dict[int, PreferenceRecord], config: PpoConfig
) -> tuple[Tensor, Tensor]:
    """By how much each answer's rewards fall when it is read under another record's images: (B, K), and where that
    can be told: bool (B, K). `swapped` holds, by `group_B`, the records with those images.

    A policy that learns to please without regard to the image closes this gap.
    """
    judge, groups = reward_model.vlm, rollout.group_B.tolist()
    encoded: dict[int, EncodedPrompt] = {}
    for group in sorted(set(groups) & swapped.keys()):
        # a damaged picture was told of where its own prompt was left out
        with contextlib.suppress(ImageError):
            encoded[group] = encode_prompt(judge, swapped[group])
    told_B = torch.tensor([group in encoded for group in groups], dtype=torch.bool)
    rows = [
        Row(encoded[group], encode_answer(judge, text))
        for group, text in zip(groups, rollout.texts, strict=True)
        if group in encoded
    ]
    gap_BK = torch.full_like(rollout.rewards_BK, torch.nan)
    if rows:
        rewards_BK = reward_model.score(
            rows, config.micro_batch_size, finite=False, micro_batch_tokens=config.micro_batch_tokens
        )
        gap_BK[told_B] = rollout.rewards_BK[told_B] - rewards_BK
    told_BK = rollout.judged_BK & gap_BK.isfinite()
    return gap_BK.masked_fill(~told_BK, 0.0), told_BK
