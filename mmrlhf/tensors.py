"""Small tensor functions, each here once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def masked_sum(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """The sum of `values` where `mask` is True; what lies outside may be NaN."""
    kept = values.masked_fill(~mask, 0.0)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True; 0 where nothing is."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def rounding(largest: Tensor) -> Tensor:
    """How far apart rewards, of which `largest` is the size, may lie by float32's rounding alone."""
    return (1e-6 * largest.abs()).clamp(min=1e-5)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """`values` shifted and scaled to mean 0 and variance 1 over the mask (the biased estimate), 0 outside it.

    All are exactly 0 where they differ by rounding only, which would else be scaled up to look like a difference.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    white = ((values - mean) * torch.rsqrt(variance + 1e-8)).masked_fill(~mask, 0.0)
    kept = values[mask]
    if not kept.numel() or kept.max() - kept.min() <= rounding(kept.abs().max()):
        return torch.zeros_like(white)
    return white


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probability of each id: logits (..., V) and ids (...) to (...), in float32."""
    logits = logits.float()
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of each distribution in nats: logits (..., V) to (...); a logit of -inf has probability 0."""
    # log sum exp(l) - sum p l; a bound much lower than this one, for -inf, would overflow in the backward pass
    near = logits.float().clamp(min=-1e4)
    return near.logsumexp(-1) - (near.softmax(-1) * near).sum(-1)


def pad_right(rows: Sequence[Tensor], value: float = 0) -> Tensor:
    """1-D tensors of differing lengths as one (B, T)."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """(B,) lengths to a bool (B, T), True at the first `lengths[b]` places."""
    size = int(lengths.max()) if size is None else size
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def hash_tensors(items: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of named tensors, to the bit: names, dtypes, shapes and values, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in items:
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat: Any = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(memoryview(flat))
    return digest.hexdigest()
