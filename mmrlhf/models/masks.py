"""Masks of rows that hold several answers, made by the family's own functions.

A family says what a token may look at by its place in the row: everything in front of it, a window, a chunk, the other
tokens of its picture. transformers turns that into a mask in one place. There each token of such a row is given the
place that it would have in a row of its own, and other answers are shut out. So every layer keeps its own kind of mask,
and so does every row that holds one answer.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmrlhf.types import Layout

KINDS = ("sdpa", "eager")  # the attentions that take a mask of any form


@dataclass(frozen=True)
class _Rows:
    """What masks are made for."""

    layout: Layout
    configs: tuple[int, ...]  # ids of the language model's configs: a tower's masks stay as they are


_rows: ContextVar[_Rows | None] = ContextVar("rows", default=None)


def allowed(layout: Layout) -> Tensor:
    """What may look where, causality aside: bool (R, 1, T, T). Padding looks at the prefix, so that no row of the
    softmax is empty."""
    segment = layout.segment_RT
    key = segment.unsqueeze(1)
    return ((key == 0) | (key == segment.unsqueeze(2)) & (key > 0)).unsqueeze(1)


def narrow_mask(mask: Any, layout: Layout, dtype: torch.dtype) -> Any:
    """A mask that the family made itself and hands to its language model (one, or one for each kind of layer), without
    other answers. One of two dimensions, (R, T), only tells real tokens, and stays."""
    if isinstance(mask, dict):
        return {name: narrow_mask(part, layout, dtype) for name, part in mask.items()}
    if mask is None:
        return (layout.segment_RT >= 0).long()
    if mask.dim() == 2:
        return mask
    allowed_RTT = allowed(layout)
    lowest = torch.finfo(dtype).min
    return mask & allowed_RTT if mask.dtype == torch.bool else mask.masked_fill(~allowed_RTT, lowest)


@contextlib.contextmanager
def masks_for(layout: Layout, configs: Sequence[Any]) -> Iterator[None]:
    """While it lasts, the masks that transformers makes for a language model of these configs are for such rows."""
    for kind in KINDS:
        _prepare(kind)
    token = _rows.set(_Rows(layout, tuple(map(id, configs))))
    try:
        yield
    finally:
        _rows.reset(token)


def _prepare(kind: str) -> None:
    """Puts `_by_place` around transformers' function for a kind of attention, once a process."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    make: Any = ALL_MASK_ATTENTION_FUNCTIONS[kind]
    if not getattr(make, "by_place", False):
        ALL_MASK_ATTENTION_FUNCTIONS[kind] = _by_place(make)


def _by_place(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        rows = _rows.get()
        if rows is None or args or id(kwargs.get("config")) not in rows.configs:
            return make(*args, **kwargs)
        count, size = rows.layout.segment_RT.shape
        if [kwargs.get(name) for name in ("batch_size", "q_length", "kv_length")] != [count, size, size]:
            return make(*args, **kwargs)
        look = _looks(kwargs["mask_function"], rows.layout)
        return make(**kwargs | {"mask_function": look, "allow_is_causal_skip": False})

    made.by_place = True  # type: ignore[attr-defined]
    return made


def _looks(look: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """What a token may look at, of tokens at their places in rows of their own."""
    places_RT = torch.arange(layout.shift_RT.shape[1], device=layout.shift_RT.device) - layout.shift_RT
    allowed_RTT = allowed(layout)[:, 0]

    def looks(row: Any, head: Any, query: Any, key: Any) -> Any:
        return look(row, head, places_RT[row, query], places_RT[row, key]) & allowed_RTT[row, query, key]

    return looks
