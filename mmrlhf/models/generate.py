"""Sampling answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mmrlhf.models.batch import collate_prompts
from mmrlhf.models.vlm import VLM
from mmrlhf.types import EncodedPrompt


@torch.no_grad()
def generate(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
) -> list[Tensor]:
    """Samples one answer a prompt (temperature 0: the likeliest tokens); draws from torch's global generator.

    Returns the answers' token ids in the prompts' order, each up to and with its end token, on the CPU. Prompts are
    batched by length. Image placeholders are never sampled.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].input_ids))
    answers: dict[int, Tensor] = {}
    with _sampling(vlm, max_new_tokens, temperature):
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            inputs = collate_prompts(vlm, [prompts[i] for i in part], vlm.device)
            out = vlm.model.generate(**inputs)  # type: ignore[operator]
            for i, ids in zip(part, out[:, inputs["input_ids"].shape[1] :].cpu(), strict=True):
                answers[i] = _until_end(ids, vlm)
    return [answers[i] for i in range(len(prompts))]


@contextlib.contextmanager
def _sampling(vlm: VLM, max_new_tokens: int, temperature: float) -> Iterator[None]:
    """Plain sampling for a while. A checkpoint's own settings (top-k, repetition penalty) would draw from another
    distribution than the one whose log-probs training takes."""
    from transformers import GenerationConfig

    own = vlm.core.generation_config
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    vlm.core.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        suppress_tokens=list(vlm.placeholder_ids) or None,
        eos_token_id=list(vlm.end_ids),
        pad_token_id=vlm.pad_id,
        **(drawn if temperature > 0 else {"do_sample": False}),
    )
    try:
        yield
    finally:
        vlm.core.generation_config = own


def _until_end(ids: Tensor, vlm: VLM) -> Tensor:
    ends = torch.isin(ids, torch.tensor(vlm.end_ids)).nonzero()
    return ids[: int(ends[0]) + 1] if len(ends) else ids
