"""What must hold for any family before it is trained, tried out on a few words and pictures when it is loaded.

Families differ in ways that no list can foresee: token types that let a prompt see its answer, images counted by
sample, masks made for a prompt alone. What is seen here to be wrong is refused; log-probs would be of something else.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from data_tools.errors import UserError
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.generate import fed
from mmrlhf.models.vlm import VLM, hidden_states
from mmrlhf.types import EncodedPrompt, Row

ANSWER, OTHER = "A picture.", "Nothing at all."
ERRORS = (AttributeError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
_found: dict[str, int | str] = {}  # by a family's settings: the token type of answers, or what is wrong


def check_rows(vlm: VLM) -> None:
    """Sees that answers are hidden from their prompts, that a batch gives each row what it has alone, and that sampling
    goes on as training reads; finds the token type of answers. Once a process for each config: weights don't matter.

    Raises:
        UserError: something of it doesn't hold.
    """
    core = vlm.core
    kind_of_run = f"{core.dtype} {vlm.device.type} {core.config.get_text_config()._attn_implementation}"
    key = f"{type(core)} {type(vlm.processor)} {kind_of_run} {core.config.to_json_string()}"
    if key not in _found:
        wrong: list[str] = []
        for kind in (0, 1):  # PaliGemma counts from the prompt, all others from text
            found = _whats_wrong(dataclasses.replace(vlm, answer_type=kind, shares_prefix=False))
            if not found:
                _found[key] = kind
                break
            wrong.append(found)
        else:
            _found[key] = wrong[0]
    result = _found[key]
    if isinstance(result, str):
        raise UserError(f"model {vlm.path}: {type(core).__name__} can't be trained here: {result}")
    vlm.answer_type = result


@torch.no_grad()
def _whats_wrong(vlm: VLM) -> str:
    """The first thing that doesn't hold; empty where all does."""
    try:
        prompts = _prompts(vlm)
        return (
            _laid_out(prompts[0])
            or _leaks(vlm, prompts[0])
            or _mixes(vlm, prompts)
            or _strays(vlm, prompts[0])
        )
    except ERRORS as error:
        return f"its forward fails on a batch ({type(error).__name__}: {error})"


def _prompts(vlm: VLM) -> list[EncodedPrompt]:
    """One of a picture; and, where the processor takes such prompts, one of text alone and one of two pictures."""
    wide, tall = picture((64, 48)), picture((28, 56))
    ask = "What is it, and what is it for?"
    prompts = [encode_prompt(vlm, PreferenceRecord("one", "probe", (user(0, ask),), images=(wide,)))]
    for parts, images in (((ask,), ()), ((0, " or ", 1, "?"), (tall, wide))):
        try:
            prompts.append(
                encode_prompt(vlm, PreferenceRecord("more", "probe", (user(*parts),), images=images))
            )
        except UserError:
            continue  # such a prompt is refused, with its reason, when it is met
    return prompts


def picture(size: tuple[int, int]) -> ImageRef:
    """A small picture of many greys."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, "PNG")
    return ImageRef.of_bytes(buffer.getvalue())


def _rows(vlm: VLM, rows: Sequence[Row]) -> list[Tensor]:
    """The hidden states of each row, without its padding."""
    batch = collate(vlm, rows, vlm.device)
    hidden = hidden_states(vlm, batch).float()
    return [hidden[i, : len(row.prompt.input_ids) + len(row.answer_ids)] for i, row in enumerate(rows)]


def _laid_out(prompt: EncodedPrompt) -> str:
    """Layers of their own for images (Llama 3.2 Vision) come with a mask over the prompt's tokens alone."""
    length = len(prompt.input_ids)
    names = [name for name, value in prompt.vision.items() if value.dim() > 2 and value.shape[1] == length]
    return f"its {names[0]} has a place for each token of a prompt and none for an answer's" if names else ""


def _leaks(vlm: VLM, prompt: EncodedPrompt) -> str:
    """An answer's tokens may be seen by those behind them alone. Both rows have one shape, so that not even rounding
    tells them apart, and the bound may be narrow."""
    answer = encode_answer(vlm, " ".join([ANSWER, OTHER] * 4))
    changed = torch.cat([answer[:1], answer[1:].flip(0)])
    (one,), (other,) = (_rows(vlm, [Row(prompt, ids)]) for ids in (answer, changed))
    same = len(prompt.input_ids) + 1
    apart = _apart(other[:same], one[:same])
    return f"a token sees what comes behind it (by {apart:.2g})" if apart > _bound(vlm, 1e-4, 5e-3) else ""


def _mixes(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> str:
    """A row of a batch gets what it gets alone."""
    rows = [
        Row(prompt, encode_answer(vlm, text))
        for prompt, text in zip(prompts, (ANSWER, OTHER, ""), strict=False)
    ]
    for row, hidden in zip(rows, _rows(vlm, rows), strict=True):
        apart = _apart(hidden, _rows(vlm, [row])[0])
        if apart > _bound(vlm, 1e-2, 0.1):
            return f"rows of a batch change each other (by {apart:.2g})"
    return ""


def _strays(vlm: VLM, prompt: EncodedPrompt) -> str:
    """Token after token, with a cache, an answer is read as it is whole."""
    row = Row(prompt, encode_answer(vlm, ANSWER))
    apart = _apart(fed(vlm, row).float(), _rows(vlm, [row])[0][len(prompt.input_ids) - 1 :])
    return f"sampling reads an answer in another way than training (by {apart:.2g})" * (
        apart > _bound(vlm, 1e-2, 0.1)
    )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """The mean distance of tokens' states, as a share of their length."""
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-6)).mean().item()


def _bound(vlm: VLM, exact: float, rounded: float) -> float:
    return exact if next(vlm.model.parameters()).dtype == torch.float32 else rounded
