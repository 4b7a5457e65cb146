"""A shared prefix is computed once: answers to one prompt lie side by side in one row, behind the prompt.

    prefix | answer 1 | answer 2 | ...

An answer sees the prefix and itself, and its positions go on where the prefix ends, so every hidden state is what it
would be in a row of its own; image and prompt are paid for once. The family's own forward runs as it is: only what it
hands to its language model, mask and positions, is changed on the way. `why_rows` tells where that can't be exact;
there, rows are laid out one by one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, user
from mmrlhf.models.parts import parts_of
from mmrlhf.types import Layout

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

# layers that see all of a row that is no longer than `VLM.window`
WINDOWED = {"full_attention", "sliding_attention", "chunked_attention"}


def lay_out(prefix_lengths: Sequence[int], answer_lengths: Sequence[Sequence[int]]) -> Layout:
    """The layout of rows, padded on the right to the longest."""
    size = max(length + sum(answers) for length, answers in zip(prefix_lengths, answer_lengths, strict=True))
    segment_RT = torch.full((len(prefix_lengths), size), -1)
    shift_RT = torch.zeros_like(segment_RT)
    for row, (length, answers) in enumerate(zip(prefix_lengths, answer_lengths, strict=True)):
        segment_RT[row, :length] = 0
        start = length
        for number, answer in enumerate(answers, 1):
            segment_RT[row, start : start + answer] = number
            shift_RT[row, start : start + answer] = start - length
            start += answer
    return Layout(segment_RT, shift_RT)


def allowed(layout: Layout) -> Tensor:
    """What may look where, causality aside: bool (R, 1, T, T). Padding looks at the prefix, so that no row of the
    softmax is empty."""
    segment = layout.segment_RT
    key = segment.unsqueeze(1)
    return ((key == 0) | (key == segment.unsqueeze(2)) & (key > 0)).unsqueeze(1)


@contextlib.contextmanager
def side_by_side(vlm: VLM, layout: Layout) -> Iterator[None]:
    """While it lasts, the language model reads rows of this layout."""

    def change(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeds = kwargs["inputs_embeds"]
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = torch.arange(embeds.shape[1], device=embeds.device).expand(embeds.shape[:2])
        kwargs["position_ids"] = positions - layout.shift_RT  # also (3, R, T), in three dimensions
        kwargs["attention_mask"] = _masked(kwargs.get("attention_mask"), allowed(layout), embeds.dtype)
        return args, kwargs

    language: Any = parts_of(vlm.core, vlm.path).language
    handle = language.register_forward_pre_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _masked(mask: Any, allowed_RTT: Tensor, dtype: torch.dtype) -> Any:
    """The mask that the family made (2-D, 4-D, or one for each kind of layer), narrowed to what is allowed."""
    if isinstance(mask, dict):
        return {name: _masked(part, allowed_RTT, dtype) for name, part in mask.items()}
    lowest = torch.finfo(dtype).min
    if mask is None or mask.dim() == 2:
        size = allowed_RTT.shape[-1]
        causal = torch.ones(size, size, dtype=torch.bool, device=allowed_RTT.device).tril()
        zeros = torch.zeros((), dtype=dtype, device=allowed_RTT.device)
        return zeros.masked_fill(~(allowed_RTT & causal), lowest)
    return mask & allowed_RTT if mask.dtype == torch.bool else mask.masked_fill(~allowed_RTT, lowest)


def why_rows(vlm: VLM) -> str:
    """Why a model can't read answers side by side, as far as its config tells; empty where it may."""
    config = vlm.core.config.get_text_config()
    kind = getattr(config, "_attn_implementation", None)
    if kind not in ("sdpa", "eager"):
        return f"its attention ({kind}) takes no mask of blocks"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := kinds - WINDOWED:
        return f"it has layers of {', '.join(sorted(other))}"
    if isinstance(parts_of(vlm.core, vlm.path).language, nn.ModuleDict):
        return "its language model is no module of its own"
    return ""


def answers_a_row(prefix: int, answer: int, answers: int, width: int) -> int:
    """How many answers of a prompt to lay into one row, so that the work for all of them is least.

    A token costs 24 D^2 a layer in matrices and 4 n D in attention over a row of n tokens (multiplications and
    additions of a plain transformer layer); with long answers the empty blocks of a dense mask outweigh the prefix. A
    last row that holds fewer is padded to the others, so it costs as much.
    """

    def work(count: int) -> float:
        tokens = prefix + count * answer
        return math.ceil(answers / count) * tokens * (6 * width + tokens)

    return min(range(1, answers + 1), key=work)


@torch.no_grad()
def differs(vlm: VLM) -> str:
    """Tries both ways on a picture with two answers: empty where the hidden states are equal, else what is wrong."""
    try:
        apart, scale, exact = _try_both(vlm)
    except torch.OutOfMemoryError:
        raise
    except (UserError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        return f"it can't read answers side by side ({type(error).__name__}: {error})"
    bound = 1e-3 if exact else 0.05
    return "" if apart <= bound * scale else f"its answers side by side differ by {apart:.2g} of {scale:.2g}"


def _try_both(vlm: VLM) -> tuple[float, float, bool]:
    """The largest difference, the largest value, and whether they are in float32."""
    from mmrlhf.models.batch import collate, encode_answer, encode_prompt
    from mmrlhf.models.probe import picture
    from mmrlhf.models.vlm import hidden_states
    from mmrlhf.types import Row

    record = PreferenceRecord(
        "probe", "probe", (user("Look at this: ", 0, " What is it?"),), images=(picture((64, 48)),)
    )
    prompt = encode_prompt(vlm, record)
    rows = [Row(prompt, encode_answer(vlm, text)) for text in ("A picture.", "Nothing at all.")]
    found = []
    for shared in (True, False):
        batch = collate(dataclasses.replace(vlm, shares_prefix=shared), rows, vlm.device)
        found.append(
            hidden_states(vlm, batch)[batch.row_B.unsqueeze(1), batch.at_BT][batch.answer_mask_BT].float()
        )
    apart = (found[0] - found[1]).abs().max().item()
    return apart, found[1].abs().max().item(), next(vlm.model.parameters()).dtype == torch.float32
