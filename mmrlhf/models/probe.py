"""What must hold for any family before it is trained, tried out on a few words and pictures when it is loaded.

Families differ in ways that no list can foresee: token types that let a prompt see its answer, images counted by
sample, masks made for a prompt alone. What is seen here to be wrong is refused; log-probs would be of something else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from data_tools.errors import UserError
from data_tools.images import read_image
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.models.batch import ERRORS, TEXT_KEYS, collate, encode_answer, encode_prompt, process
from mmrlhf.models.generate import fed, positions_seen
from mmrlhf.models.placeholders import added_tokens, same_kind
from mmrlhf.models.positions import counts_positions
from mmrlhf.models.vlm import VLM, hidden_states
from mmrlhf.types import EncodedPrompt, Row

ASK = "What is it, and what is it for?"
ANSWER, OTHER = "A picture.", "Nothing at all."
WIDE, TALL = (64, 48), (28, 84)
LARGE, LONG = (1344, 896), (320, 1280)  # cut into slices or tiles, where a family does that
# how a batch is read: PaliGemma counts token types from the prompt, all others from text; PerceptionLM takes padding
# for tiles, MiniCPM-V lays all patches of a forward into one row, Molmo 2 numbers those of a call of its processor, and
# HunYuan-VL counts pictures over the batch
WAYS: list[dict[str, Any]] = [
    {"answer_type": 0},
    {"answer_type": 1},
    {"one_by_one": True},
    {"counts_apart": True},
    {"one_by_one": True, "counts_apart": True},
]
_found: dict[str, dict[str, Any] | str] = {}  # by a family's settings: the way that fits it, or what is wrong


@torch.no_grad()
def learn_tokens(vlm: VLM) -> None:
    """Finds on pictures how the processor takes one, what it gives for each token, and which tokens stand for pictures
    or mark their places: those are never sampled.

    Raises:
        UserError: the processor doesn't take a picture.
    """
    try:
        _processed(vlm, ASK)
    except UserError:
        vlm.nests_images = False  # GOT-OCR2 takes a list in a list for pages
    try:
        # twice, since a picture may by chance have as many patches as its prompt has tokens
        shown = [_processed(vlm, text) for text in (ASK, "What?")]
    except UserError as error:
        raise UserError(f"model {vlm.path}: it can't be shown a picture: {error}") from error
    vlm.token_fields = frozenset(
        name
        for name, value in shown[0].items()
        if name not in TEXT_KEYS
        and isinstance(value, Tensor)
        and not value.is_floating_point()
        and all(one[name].shape == one["input_ids"].shape for one in shown)
    )
    vlm.placeholder_ids = tuple(sorted(_never_sampled(vlm)))
    added = added_tokens(vlm.tokenizer)
    texts = {added[i] for i in vlm.placeholder_ids if i in added}
    vlm.special_tokens = tuple(sorted({*vlm.special_tokens, *texts}))


def _never_sampled(vlm: VLM) -> set[int]:
    """The placeholders that are named, what the processor writes around pictures of several shapes and sizes but not
    into words, and all others of their kinds."""
    chat = [{"role": "user", "content": [{"type": "text", "text": ASK}]}]
    plain = vlm.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    words = vlm.tokenizer(plain, add_special_tokens=not vlm.template_adds_bos)["input_ids"]
    written: set[int] = set()
    for images in ((WIDE,), (TALL,), (LARGE,), (LONG,), (WIDE, TALL)):
        with contextlib.suppress(UserError):  # some take no two pictures, or none of such a shape
            record = _record(*range(len(images)), ASK, images=[picture(size) for size in images])
            shown = process(vlm, record, [read_image(image) for image in record.images])
            written |= set(shown["input_ids"][0].tolist())
    marks = written & set(added_tokens(vlm.tokenizer)) - {*words, vlm.pad_id}
    size = vlm.head.weight.shape[0]
    known = same_kind(vlm.tokenizer, {*vlm.placeholder_ids, *marks})
    return {i for i in known - {*words, *vlm.end_ids} | set(vlm.placeholder_ids) if i < size}


def check_rows(vlm: VLM) -> None:
    """Sees that answers are hidden from their prompts, that a batch gives each row what it has alone, and that sampling
    goes on as training reads; finds the token type of answers, and whether the pictures of several prompts may be
    encoded together. Once a process for each config: weights don't matter.

    Raises:
        UserError: something of it doesn't hold.
    """
    core = vlm.core
    kind_of_run = f"{core.dtype} {vlm.device.type} {core.config.get_text_config()._attn_implementation}"
    key = f"{type(core)} {type(vlm.processor)} {kind_of_run} {core.config.to_json_string()}"
    if key not in _found:
        wrong: list[str] = []
        for way in WAYS:
            if way.get("counts_apart") and not counts_positions(core):
                continue
            if not (reason := _whats_wrong(dataclasses.replace(vlm, **way, shares_prefix=False))):
                _found[key] = way | {"apart_because": wrong[0] if "answer_type" not in way else ""}
                break
            wrong.append(reason)
        else:
            _found[key] = wrong[0]
    result = _found[key]
    if isinstance(result, str):
        raise UserError(f"model {vlm.path}: {type(core).__name__} can't be trained here: {result}")
    for name, value in result.items():
        setattr(vlm, name, value)


@torch.no_grad()
def _whats_wrong(vlm: VLM) -> str:
    """The first thing that doesn't hold; empty where all does."""
    try:
        prompts = probe_prompts(vlm)
        return (
            _laid_out(prompts[0])
            or _leaks(vlm, prompts[0])
            or _mixes(vlm, prompts)
            or _strays(vlm, prompts[0])
        )
    except torch.OutOfMemoryError:
        raise  # a RuntimeError too, but no fault of the family
    except (UserError, *ERRORS) as error:
        return f"its forward fails on a batch ({type(error).__name__}: {error})"


def probe_prompts(vlm: VLM, negative: bool = False) -> list[EncodedPrompt]:
    """One of a picture; and, where the processor takes such prompts, one of another shape, one of text alone and one of
    two pictures. `negative`: the same prompts with the negatives of the pictures."""
    wide, tall = picture(WIDE, negative), picture(TALL, negative)
    prompts = [encode_prompt(vlm, _record(0, ASK, images=(wide,)))]
    others = (((0, ASK), (tall,)), ((ASK,), ()), ((0, " or ", 1, "?"), (tall, wide)))
    for parts, images in others:
        try:
            prompts.append(encode_prompt(vlm, _record(*parts, images=images)))
        except UserError:
            continue  # such a prompt is refused, with its reason, when it is met
    return prompts


def _record(*parts: str | int, images: Sequence[ImageRef]) -> PreferenceRecord:
    return PreferenceRecord("probe", "probe", (user(*parts),), images=tuple(images))


def _processed(vlm: VLM, text: str) -> dict[str, Tensor]:
    image = picture(WIDE)
    return process(vlm, _record(0, text, images=(image,)), [read_image(image)])


def picture(size: tuple[int, int], negative: bool = False) -> ImageRef:
    """A small picture of many greys."""
    buffer = io.BytesIO()
    greys = Image.linear_gradient("L").resize(size)
    (ImageOps.invert(greys) if negative else greys).convert("RGB").save(buffer, "PNG")
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
    apart = distance(other[:same], one[:same])
    return f"a token sees what comes behind it (by {apart:.2g})" if apart > bound(vlm, 1e-4, 5e-3) else ""


def _mixes(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> str:
    """A row of a batch gets what it gets alone; the first two show pictures of one shape."""
    rows = [
        Row(prompt, encode_answer(vlm, text))
        for prompt, text in zip([prompts[0], *prompts], (OTHER, ANSWER, OTHER, "", ANSWER), strict=False)
    ]
    with positions_seen(vlm) as seen:
        together = _rows(vlm, rows)
        for i, (row, hidden) in enumerate(zip(rows, together, strict=True)):
            apart = distance(hidden, _rows(vlm, [row])[0])
            if apart > bound(vlm, 1e-2, 0.1):
                return f"rows of a batch change each other (by {apart:.2g})"
            if seen and not _same_positions(seen[0], i, seen[-1]):
                return "rows of a batch change each other's positions"
    return _sees_others(vlm, rows, probe_prompts(vlm, negative=True), together)


def _sees_others(
    vlm: VLM, rows: Sequence[Row], negatives: Sequence[EncodedPrompt], before: Sequence[Tensor]
) -> str:
    """A row moves with its picture alone. One picture is changed at a time, and all shapes stay, so that rounding,
    which may be large in half precision, is the same before and after."""
    for i, row in enumerate(rows):
        other = negatives[max(0, i - 1)]  # the first prompt comes twice
        if not row.prompt.vision or not torch.equal(other.input_ids, row.prompt.input_ids):
            continue
        changed = Row(other, row.answer_ids)
        alone, moved_alone = _rows(vlm, [row])[0], _rows(vlm, [changed])[0]
        far = distance(moved_alone, alone)
        after = _rows(vlm, [changed if j == i else same for j, same in enumerate(rows)])
        moved = [distance(one, other) for one, other in zip(after, before, strict=True)]
        if moved[i] < 0.5 * far:
            return "a row of a batch doesn't see its picture"
        if max([0.0, *moved[:i], *moved[i + 1 :]]) > bound(vlm, 1e-6, 1e-3) + 0.02 * far:
            return "a row of a batch sees another's picture"
    return ""


def _same_positions(batch: Tensor | None, row: int, alone: Tensor | None) -> bool:
    """Whether a row's positions, (..., R, T) of a batch, are those it has alone."""
    if batch is None or alone is None or batch.shape[-2] == 1:
        return True  # counted along the row
    return torch.equal(batch[..., row, : alone.shape[-1]], alone[..., 0, :])


def _strays(vlm: VLM, prompt: EncodedPrompt) -> str:
    """Token after token, with a cache, an answer is read as it is whole."""
    row = Row(prompt, encode_answer(vlm, ANSWER))
    apart = distance(fed(vlm, row).float(), _rows(vlm, [row])[0][len(prompt.input_ids) - 1 :])
    return f"sampling reads an answer in another way than training (by {apart:.2g})" * (
        apart > bound(vlm, 1e-2, 0.1)
    )


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The mean distance of tokens' states, as a share of their length."""
    return ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-6)).mean().item()


def bound(vlm: VLM, exact: float, rounded: float) -> float:
    """How large a distance may be: the first in float32, the second in half precision."""
    return exact if next(vlm.model.parameters()).dtype == torch.float32 else rounded
