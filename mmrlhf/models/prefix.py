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
from mmrlhf.models.masks import masks_for, narrow_mask
from mmrlhf.models.parts import parts_of
from mmrlhf.types import Layout

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

# layers that see all of a row that is no longer than `VLM.window`
WINDOWED = {"full_attention", "sliding_attention", "chunked_attention"}
WINDOWS = ("sliding_window", "attention_chunk_size")  # of a config: how far such layers see


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


@contextlib.contextmanager
def side_by_side(vlm: VLM, layout: Layout) -> Iterator[None]:
    """While it lasts, the language model reads rows of this layout."""
    language: Any = parts_of(vlm.core, vlm.path).language

    def change(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeds = kwargs["inputs_embeds"]
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = torch.arange(embeds.shape[1], device=embeds.device).expand(embeds.shape[:2])
        kwargs["position_ids"] = positions - layout.shift_RT  # also (3, R, T), in three dimensions
        kwargs["attention_mask"] = narrow_mask(kwargs.get("attention_mask"), layout, embeds.dtype)
        return args, kwargs

    configs = (vlm.core.config, vlm.core.config.get_text_config(), getattr(language, "config", None))
    handle = language.register_forward_pre_hook(change, with_kwargs=True)
    try:
        with masks_for(layout, configs):
            yield
    finally:
        handle.remove()


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
    """Tries both ways on a picture with two answers, beside a text with one: empty where the hidden states are equal,
    else what is wrong."""
    try:
        ours, theirs = _try_both(vlm)
    except torch.OutOfMemoryError:
        raise
    except (UserError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"it can't read answers side by side ({type(error).__name__}: {error})"
    apart, scale = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    bound = 1e-3 if _is_exact(vlm) else 0.05
    return "" if apart <= bound * scale else f"its answers side by side differ by {apart:.2g} of {scale:.2g}"


@torch.no_grad()
def most_shared_tokens(vlm: VLM) -> int | None:
    """How long a row with several answers may be; None: of any length.

    Within the window of its layers nothing is hidden. Beyond it a row is exact where the family's windows count places
    as `masks.py` gives them; that is tried with windows so small that the probe's rows are longer.
    """
    if not vlm.window:
        return vlm.window
    config = vlm.core.config.get_text_config()
    windows = {name: size for name in WINDOWS if isinstance(size := getattr(config, name, None), int)}
    try:
        _, wide = _try_both(vlm)
        for name in windows:
            setattr(config, name, min(8, max(1, vlm.window // 2)))
        ours, theirs = _try_both(vlm)
    except torch.OutOfMemoryError:
        raise
    except (UserError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return vlm.window
    finally:
        for name, size in windows.items():
            setattr(config, name, size)
    apart, narrowed = (ours - theirs).abs().max().item(), (wide - theirs).abs().max().item()
    return None if apart < (1e-3 if _is_exact(vlm) else 0.1) * narrowed else vlm.window


def _is_exact(vlm: VLM) -> bool:
    return next(vlm.model.parameters()).dtype == torch.float32


def _try_both(vlm: VLM) -> tuple[Tensor, Tensor]:
    """The hidden states before the tokens of answers, (N, D): side by side, and in rows of their own."""
    from mmrlhf.models.batch import collate, encode_answer, encode_prompt
    from mmrlhf.models.probe import picture
    from mmrlhf.models.vlm import hidden_states
    from mmrlhf.types import Row

    shown = PreferenceRecord(
        "probe", "probe", (user("Look at this: ", 0, " What is it?"),), images=(picture((64, 48)),)
    )
    prompt = encode_prompt(vlm, shown)
    rows = [Row(prompt, encode_answer(vlm, text)) for text in ("A picture.", "Nothing at all.")]
    with contextlib.suppress(UserError):  # some processors take no prompt without a picture
        text = PreferenceRecord("probe", "probe", (user("Look at this: what is it, and what is it for?"),))
        rows.append(Row(encode_prompt(vlm, text), encode_answer(vlm, "Nothing at all.")))
    states = []
    for shared in (True, False):
        reader = dataclasses.replace(vlm, shares_prefix=shared, shared_tokens=None)
        batch = collate(reader, rows, vlm.device)
        hidden = hidden_states(vlm, batch)
        states.append(hidden[batch.row_B.unsqueeze(1), batch.at_BT][batch.answer_mask_BT].float())
    return states[0], states[1]
