"""Sampling answers, several to a prompt: image and prompt are read once, and the answers go on from there together.

Written here since transformers' `generate` reads the prompt anew for each answer, and prepares every step's inputs by
code of the family. What it draws from is the distribution whose log-probs training takes: no top-k, no penalties from a
checkpoint's own settings, and never an image placeholder.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from data_tools.errors import RunError
from mmrlhf.models.adapters import merged_adapters
from mmrlhf.models.batch import collate_prompts
from mmrlhf.models.kv_cache import pick
from mmrlhf.models.parts import parts_of
from mmrlhf.models.prefix import WINDOWED
from mmrlhf.models.vlm import VLM, answer_logits, run_trunk, seeing
from mmrlhf.tensors import token_logprobs
from mmrlhf.types import EncodedPrompt, Row


@dataclass(frozen=True)
class Sample:
    """One sampled answer, on the CPU."""

    ids: Tensor  # T, int64: up to and with its end token
    logprobs: Tensor  # T, float32: of each token when it was drawn
    read: Tensor | None  # (T, K): what `read` made of the hidden state before each token


def generate(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
    answers: int = 1,
) -> list[Tensor]:
    """The token ids of `sample`, with draws from torch's global generator."""
    count = len(prompts) * answers
    draws = torch.rand(count, max_new_tokens, dtype=torch.float64) if temperature else None
    samples = sample(vlm, prompts, max_new_tokens, draws, temperature, batch_size, answers)
    return [drawn.ids for drawn in samples]


@torch.no_grad()
def sample(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    max_new_tokens: int,
    draws: Tensor | None,
    temperature: float = 1.0,
    batch_size: int = 64,
    answers: int = 1,
    read: Callable[[Tensor], Tensor] | None = None,
) -> list[Sample]:
    """Samples `answers` answers a prompt (temperature 0: the likeliest tokens), in the prompts' order, a prompt's
    answers one after the other.

    Prompts are batched by length, at most `batch_size` answers at a time: where a prompt has more of them, they go on
    from it in several passes. `draws` (P * answers, max_new_tokens), in
    [0, 1), decides each token by itself: which token it is doesn't depend on what else is in the batch, nor on how many
    processes share the work. `read` is given hidden states (N, D), such as a value head.

    Raises:
        RunError: the model's logits aren't finite; the message names the record.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].input_ids))
    drawn: list[list[Sample]] = [[] for _ in prompts]
    with merged_adapters(vlm):
        for part in _parts(vlm, prompts, order, max(1, batch_size // answers), max_new_tokens):
            state = _read(vlm, [prompts[i] for i in part])
            for begin in range(0, answers, batch_size):
                which = range(begin, min(begin + batch_size, answers))
                # a pass writes into the state; the last one needs no copy
                start = state if which.stop == answers else copy.deepcopy(state)
                start.repeat(len(which), max_new_tokens)
                rows = [i * answers + k for i in part for k in which]
                samples = _go_on(
                    vlm, start, max_new_tokens, temperature, None if draws is None else draws[rows], read
                )
                for place, i in enumerate(part):
                    drawn[i] += samples[place * len(which) : (place + 1) * len(which)]
            for i in part:
                if not all(answer.logprobs.isfinite().all() for answer in drawn[i]):
                    raise RunError(
                        f"{vlm.path}: its logits for record {prompts[i].record.id} aren't finite, so nothing can be "
                        "sampled from them: the model is damaged, or has diverged (a lower optim.lr may help)"
                    )
    return [answer for answers_of_one in drawn for answer in answers_of_one]


def uniforms(seeds: Sequence[int], answers: int, tokens: int) -> Tensor:
    """Draws in [0, 1) for some answers to prompts that have a seed each: (P * answers, tokens), float64."""
    rows = [
        torch.rand(answers, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    return torch.cat(rows) if rows else torch.zeros(0, tokens, dtype=torch.float64)


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

    def repeat(self, times: int, room: int) -> None:
        """Each answer becomes several that begin alike, with room in the cache for some tokens more."""
        count = len(self.hidden_ND)
        pick(self.cache, torch.arange(count, device=self.hidden_ND.device).repeat_interleave(times), room)
        if times > 1:
            self.hidden_ND = self.hidden_ND.repeat_interleave(times, 0)
            self.mask_NT = self.mask_NT.repeat_interleave(times, 0)
            self.next_DN1 = self.next_DN1.repeat_interleave(times, 1)

    def keep(self, index: Tensor) -> None:
        """Only some of the answers."""
        pick(self.cache, index)
        self.mask_NT, self.next_DN1 = self.mask_NT[index], self.next_DN1[:, index]


def _read(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> _State:
    """The prompts' forward, padded on the right as in training."""
    inputs = collate_prompts(vlm, prompts, vlm.device)
    mask = inputs["attention_mask"]
    given = {"past_key_values": DynamicCache(config=vlm.core.config)} if vlm.takes_cache else {}
    with positions_seen(vlm) as seen, seeing(vlm, prompts):
        hidden_NTD, cache = run_trunk(vlm, **inputs, **given, use_cache=True)
    if cache is None and not vlm.takes_cache:
        vlm.takes_cache = True
        return _read(vlm, prompts)
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


def _go_on(
    vlm: VLM,
    state: _State,
    max_new_tokens: int,
    temperature: float,
    draws_NT: Tensor | None,
    read: Callable[[Tensor], Tensor] | None,
) -> list[Sample]:
    """Draws token after token; answers that have ended are dropped from the batch as it pays."""
    count, device = len(state.hidden_ND), vlm.device
    draws_NT = None if draws_NT is None else draws_NT.to(device)
    ends = torch.tensor(vlm.end_ids, device=device)
    tokens = torch.full((count, max_new_tokens), vlm.pad_id, device=device)
    logprobs = torch.zeros(count, max_new_tokens, device=device)
    reads: list[tuple[Tensor, Tensor]] = []  # which answers, and what was read
    lengths = torch.zeros(count, dtype=torch.int64, device=device)
    alive = torch.arange(count, device=device)
    ended = torch.zeros(count, dtype=torch.bool, device=device)  # of those that are still in the batch
    for step in range(max_new_tokens):
        logits = answer_logits(vlm, state.hidden_ND, temperature or 1.0)
        drawn = logits.argmax(-1) if draws_NT is None else _draw(logits, draws_NT[alive, step])
        tokens[alive, step] = drawn.masked_fill(ended, vlm.pad_id)
        logprobs[alive, step] = token_logprobs(logits, drawn)
        if read is not None:
            reads.append((alive, read(state.hidden_ND)))
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
    read_NTK = _by_answer(reads, count).cpu() if reads else None
    tokens, logprobs = tokens.cpu(), logprobs.cpu()
    return [
        Sample(tokens[i, :n], logprobs[i, :n], None if read_NTK is None else read_NTK[i, :n])
        for i, n in enumerate(lengths.tolist())
    ]


def _by_answer(reads: Sequence[tuple[Tensor, Tensor]], count: int) -> Tensor:
    found = reads[0][1].new_zeros(count, len(reads), reads[0][1].shape[-1])
    for step, (alive, values) in enumerate(reads):
        found[alive, step] = values
    return found


def _draw(logits_NV: Tensor, draws_N: Tensor) -> Tensor:
    """The token in whose part of [0, 1) each draw falls; parts are as wide as the tokens are likely.

    In float64, since the sums over a large vocabulary would swallow its rare tokens in float32. A token of no
    probability has a part of no width, and is never drawn.
    """
    upto_NV = logits_NV.double().softmax(-1).cumsum(-1)
    whole = upto_NV[:, -1:]
    last = (upto_NV < whole).sum(-1)  # the last token of any probability, should rounding lead behind it
    return torch.minimum(
        torch.searchsorted(upto_NV, draws_N.unsqueeze(1) * whole, right=True).squeeze(1), last
    )


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
