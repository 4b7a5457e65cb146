"""Positions counted for one prompt at a time, in families that count pictures over all rows of a batch (HunYuan-VL)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmrlhf.types import EncodedPrompt

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM


def counts_positions(core: Any) -> bool:
    """Whether a model's trunk finds positions in the way that can be asked for one row."""
    return hasattr(core.base_model, "get_rope_index")


@contextlib.contextmanager
def positions_apart(prompts: Sequence[EncodedPrompt], vlm: VLM) -> Iterator[None]:
    """While it lasts, a forward on rows of these prompts, in this order, counts each row's positions alone."""
    trunk: Any = vlm.core.base_model
    own = trunk.get_rope_index
    signature = inspect.signature(own)

    def count(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        named = {**given.arguments, **given.arguments.pop("kwargs", {})}
        rows = [own(**_of_row(named, prompts, row)) for row in range(len(prompts))]
        positions, deltas = zip(*rows, strict=True)
        return torch.cat(positions, -2), torch.cat(deltas)

    trunk.get_rope_index = count
    try:
        yield
    finally:
        del trunk.get_rope_index


def _of_row(named: dict[str, Any], prompts: Sequence[EncodedPrompt], row: int) -> dict[str, Any]:
    """A row's part of what is given for all: of pictures what its prompt has, of tokens its own."""
    of_pictures = {name for prompt in prompts for name in prompt.vision}
    mine: dict[str, Any] = {}
    for name, value in named.items():
        if name in of_pictures:
            part = prompts[row].vision.get(name)
            mine[name] = part if part is None or value is None else part.to(value.device)
        else:
            mine[name] = value[row : row + 1] if isinstance(value, Tensor) else value
    return mine
