"""Sampling answers, several to a prompt: image and prompt are read once, and the answers go on from there together.

Written here since transformers' `generate` reads the prompt anew for each answer, and prepares every step's inputs by
code of the family. What it draws from is the distribution whose log-probs training takes: no top-k, no penalties from a
checkpoint's own settings, and never an image placeholder.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrlhf.models.batch import collate_prompts
from mmrlhf.models.parts import parts_of
from mmrlhf.models.prefix import WINDOWED
from mmrlhf.models.vlm import VLM, answer_logits, run_trunk, seeing
from mmrlhf.types import EncodedPrompt, Row


@torch.no_grad()
def generate(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
    answers: int = 1,
) -> list[Tensor]:
    """Samples `answers` answers a prompt (temperature 0: the likeliest tokens); draws from torch's global generator.

    Returns the answers' token ids in the prompts' order (a prompt's answers one after the other), each up to and with
    its end token, on the CPU. Prompts are batched by length, at most `batch_size` answers at a time.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].input_ids))
    found: dict[int, list[Tensor]] = {}
    for part in _parts(vlm, prompts, order, max(1, batch_size // answers), max_new_tokens):
        state = _read(vlm, [prompts[i] for i in part])
        state.repeat(answers)
        drawn = _go_on(vlm, state, max_new_tokens, temperature)
        found |= {i: drawn[k * answers : (k + 1) * answers] for k, i in enumerate(part)}
    return [answer for i in range(len(prompts)) for answer in found[i]]


def _parts(
    vlm: VLM, prompts: Sequence[EncodedPrompt], order: list[int], size: int, max_new_tokens: int
) -> list[list[int]]:
    """Batches of prompts; of equal length alone where a layer's state would take in the padding, or padding between
    prompt and answer would push the prompt out of a layer's window."""
    kinds = set(getattr(vlm.core.config.get_text_config(), "layer_types", None) or ["full_attention"])
    window = math.inf if vlm.window is None else vlm.window
    parts: list[list[int]] = []
    for i in order:
        length = len(prompts[i].input_ids)
        padded = kinds <= WINDOWED and length + max_new_tokens <= window
        same = parts and (padded or len(prompts[parts[-1][0]].input_ids) == length)
        if same and len(parts[-1]) < size:
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


@dataclass
class _State:
    """Where N answers stand."""

    cache: Any
    hidden_ND: Tensor  # of the last token
    mask_NT: Tensor  # real tokens so far
    next_DN1: (
        Tensor  # the next token's position, in as many rows as the family has; (1, N, 1) where it has one
    )

    def repeat(self, times: int) -> None:
        """Each answer becomes several that begin alike."""
        if times > 1:
            count = len(self.hidden_ND)
            self._pick(torch.arange(count, device=self.hidden_ND.device).repeat_interleave(times))
            self.hidden_ND = self.hidden_ND.repeat_interleave(times, 0)
            self.mask_NT = self.mask_NT.repeat_interleave(times, 0)
            self.next_DN1 = self.next_DN1.repeat_interleave(times, 1)

    def keep(self, index: Tensor) -> None:
        """Only some of the answers."""
        self._pick(index)
        self.mask_NT, self.next_DN1 = self.mask_NT[index], self.next_DN1[:, index]

    def _pick(self, index: Tensor) -> None:
        """The cache's rows at `index`: beam search's way, since layers that carry a state know no other."""
        self.cache.reorder_cache(index)


def _read(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> _State:
    """The prompts' forward, padded on the right as in training."""
    inputs = collate_prompts(vlm, prompts, vlm.device)
    mask = inputs["attention_mask"]
    with positions_seen(vlm) as seen, seeing(vlm, prompts):
        hidden_NTD, cache = run_trunk(vlm, **inputs, use_cache=True)
    last = mask.sum(1) - 1
    hidden = hidden_NTD[torch.arange(len(prompts), device=vlm.device), last]
    return _State(cache, hidden, mask, _next_position(seen[0] if seen else None, mask))


@contextlib.contextmanager
def positions_seen(vlm: VLM) -> Iterator[list[Tensor | None]]:
    """Takes down the positions that the family's forward hands to its language model, while it lasts."""
    seen: list[Tensor | None] = []
    language: Any = parts_of(vlm.core, vlm.path).language
    handle = language.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs.get("position_ids")), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def fed(vlm: VLM, row: Row) -> Tensor:
    """The hidden states from a prompt's last token on, where sampling would have drawn this answer: (T + 1, D)."""
    state = _read(vlm, [row.prompt])
    found = [state.hidden_ND]
    for token in row.answer_ids.to(vlm.device):
        _feed(vlm, state, token.reshape(1))
        found.append(state.hidden_ND)
    return torch.cat(found)


def _next_position(positions: Tensor | None, mask: Tensor) -> Tensor:
    """The position behind each prompt: (rows, N, 1). Families with positions in time, height and width go on behind
    the largest of the three; a fourth row in front of them counts tokens."""
    if positions is None:
        return mask.sum(1).reshape(1, -1, 1)
    rows = positions if positions.dim() == 3 else positions.unsqueeze(0)
    largest = rows.masked_fill(mask == 0, -1).amax(-1)
    if len(rows) > 3:
        largest = torch.cat([largest[:1], largest[1:].amax(0, keepdim=True).expand(len(rows) - 1, -1)])
    else:
        largest = largest.amax(0, keepdim=True).expand(len(rows), -1)
    return largest.unsqueeze(-1) + 1


def _go_on(vlm: VLM, state: _State, max_new_tokens: int, temperature: float) -> list[Tensor]:
    """Draws token after token; answers that have ended are dropped from the batch as it pays."""
    count = len(state.hidden_ND)
    ends = torch.tensor(vlm.end_ids, device=vlm.device)
    tokens = torch.full((count, max_new_tokens), vlm.pad_id, device=vlm.device)
    lengths = torch.zeros(count, dtype=torch.int64, device=vlm.device)
    alive = torch.arange(count, device=vlm.device)
    ended = torch.zeros(count, dtype=torch.bool, device=vlm.device)  # of those that are still in the batch
    for step in range(max_new_tokens):
        drawn = _draw(answer_logits(vlm, state.hidden_ND, temperature or 1.0), temperature)
        tokens[alive, step] = drawn.masked_fill(ended, vlm.pad_id)
        lengths[alive] += ~ended
        ended = ended | torch.isin(drawn, ends)
        left = int((~ended).sum())
        if left == 0 or step + 1 == max_new_tokens:
            break
        if left <= len(ended) // 2:
            index = (~ended).nonzero().squeeze(1)
            state.keep(index)
            alive, drawn, ended = alive[index], drawn[index], ended[index]
        _feed(vlm, state, drawn)
    return [ids[:length] for ids, length in zip(tokens.cpu(), lengths.tolist(), strict=True)]


def _draw(logits_NV: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return logits_NV.argmax(-1)
    return torch.multinomial(logits_NV.softmax(-1), 1).squeeze(1)


def _feed(vlm: VLM, state: _State, drawn_N: Tensor) -> None:
    """One more token each."""
    state.mask_NT = torch.cat([state.mask_NT, torch.ones_like(state.mask_NT[:, :1])], 1)
    positions = state.next_DN1 if len(state.next_DN1) > 1 else state.next_DN1[0]
    hidden_NTD, _ = run_trunk(
        vlm,
        input_ids=drawn_N.unsqueeze(1),
        attention_mask=state.mask_NT,
        position_ids=positions,
        past_key_values=state.cache,
        use_cache=True,
    )
    state.hidden_ND = hidden_NTD[:, -1]
    state.next_DN1 = state.next_DN1 + 1
