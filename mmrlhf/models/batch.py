"""From records to what a forward takes: encoding a prompt, an answer, and collating rows.

Every family's own processor expands the image placeholders and prepares the pixels, one prompt at a time; the tensors
stay with their sample and are joined only for the forward that needs them. So slicing, shuffling and mixing text-only
rows with rows of one or many images can't send an image to another row, however a family lays out patches, tiles and
grids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data_tools.errors import PromptRefused
from data_tools.images import ImageError, read_image
from data_tools.schema import Message, PreferenceRecord
from mmrlhf.models.prefix import answers_a_row, lay_out
from mmrlhf.tensors import length_mask, pad_right
from mmrlhf.types import EncodedPrompt, Row, TokenBatch

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

TEXT_KEYS = {"input_ids", "attention_mask"}
NO_INPUTS = {"labels"}  # some processors add them
# what code that was written for other inputs stumbles over
ERRORS = (AttributeError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


class PromptTooLong(PromptRefused):
    """A prompt over the limit; it is refused whole, since cutting could cut into its image tokens."""

    remedy = (
        "raise max_prompt_tokens (up to what the model reads), or set model.max_pixels so that an image takes fewer "
        "tokens"
    )


class PromptUnreadable(PromptRefused):
    """A prompt that the family's processor doesn't take; some take none without an image."""


def encode_prompt(
    vlm: VLM,
    record: PreferenceRecord,
    max_tokens: int | None = None,
    images: Sequence[Image.Image] | None = None,
) -> EncodedPrompt:
    """The record's prompt with the family's chat template; `images` replaces the record's own (an empty list: none).

    Raises:
        PromptTooLong: over `max_tokens` tokens, image tokens included, or over what the model reads.
        ImageError: an image can't be read.
        UserError: the family's processor doesn't take such a prompt (some take none without an image).
    """
    if images is None:
        images = [_picture(record, index) for index in range(len(record.images))]
    encoded = process(vlm, record, images)
    ids = encoded["input_ids"][0]
    if reason := _too_long(vlm, len(ids), max_tokens):
        raise PromptTooLong(f"record {record.id}: a prompt of {len(ids)} tokens is over {reason}")
    fields = {k: v[0] for k, v in encoded.items() if k in vlm.token_fields}
    vision = {k: v for k, v in encoded.items() if k not in TEXT_KEYS and k not in fields} if images else {}
    return EncodedPrompt(record, ids, fields, vision)


def _too_long(vlm: VLM, tokens: int, limit: int | None) -> str:
    """What a prompt of so many tokens is longer than; empty where it isn't."""
    if vlm.context is not None and tokens + max(1, vlm.answer_room) > vlm.context:
        room = f" with the {vlm.answer_room} of an answer" if vlm.answer_room else ""
        return f"what the model reads: {vlm.context:,} tokens{room}"
    if limit is None or tokens <= limit:
        return ""
    most = "" if vlm.context is None else f" (the model reads {vlm.context - max(1, vlm.answer_room):,})"
    return f"the limit of {limit}{most}"


def encode_told(
    vlm: VLM, record: PreferenceRecord, told: PreferenceRecord, max_tokens: int | None = None
) -> EncodedPrompt:
    """The prompt of `told`, which is the record with more in its prompt, for the policy to read: wishes that are no
    part of what judges, the oracle and measures read, which is `record`.

    Raises:
        PromptTooLong, ImageError, UserError: as in `encode_prompt`.
    """
    prompt = encode_prompt(vlm, told, max_tokens)
    return dataclasses.replace(prompt, record=record, tells_weights=told is not record)


def process(vlm: VLM, record: PreferenceRecord, images: Sequence[Image.Image]) -> dict[str, Tensor]:
    """What the family's processor makes of a record's prompt with these images: a batch of one.

    Raises:
        UserError: its template or its processor doesn't take such a prompt.
    """
    chat = [_chat_message(vlm, message, show_images=bool(images)) for message in record.prompt]
    # a few name token types among the model's inputs, but don't make them unasked
    known = getattr(vlm.processor, "model_input_names", ())
    asked = {"return_mm_token_type_ids": True} if "mm_token_type_ids" in known else {}
    try:
        text = vlm.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        encoded = vlm.processor(
            text=[text],
            # a list a sample, as transformers' own chats give it: LLaVA-OneVision tiles an image only if it is alone
            images=([list(images)] if vlm.nests_images else list(images)) if images else None,
            return_tensors="pt",
            add_special_tokens=not vlm.template_adds_bos,
            **asked,
        )
    except (TemplateError, *ERRORS) as error:
        name = type(vlm.processor).__name__
        raise PromptUnreadable(f"record {record.id}: {name} can't read its prompt: {error}") from error
    return {name: value for name, value in encoded.items() if name not in NO_INPUTS}


def _picture(record: PreferenceRecord, index: int) -> Image.Image:
    try:
        return read_image(record.images[index])
    except ImageError as error:
        raise ImageError(f"record {record.id}, image {index}: {error}") from error


def _chat_message(vlm: VLM, message: Message, show_images: bool) -> dict[str, object]:
    content: list[dict[str, str]] = []
    for part in message.parts:
        if part.text is None:
            if show_images:
                content.append({"type": "image"})
        elif content and content[-1]["type"] == "text":
            # neighbours are joined first: a special token could lie in two pieces
            content[-1]["text"] += part.text
        else:
            content.append({"type": "text", "text": part.text})
    for item in content:
        if item["type"] == "text":
            item["text"] = plain_text(vlm, item["text"])
    return {"role": message.role, "content": content}


def plain_text(vlm: VLM, text: str) -> str:
    """The text with the tokenizer's special tokens taken apart (`<image>` becomes `< image>`).

    Otherwise a user's own words could end a turn, or stand for an image that isn't there.
    """
    for token in vlm.special_tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def encode_answer(vlm: VLM, text: str, max_tokens: int | None = None) -> Tensor:
    """The tokens of an answer as the chat template writes it, up to and with the end token; cut to `max_tokens`."""
    lead = vlm.answer_lead
    ids = vlm.tokenizer(lead + plain_text(vlm, text), add_special_tokens=False)["input_ids"]
    return torch.tensor([*ids, vlm.end_id][:max_tokens], dtype=torch.int64)


def collate(vlm: VLM, rows: Sequence[Row], device: torch.device | None = None) -> TokenBatch:
    """Rows as one forward's inputs, padded on the right. Answers to the same prompt (the same object) share a row
    where the model can read them so and it saves work."""
    groups = _groups(vlm, rows)
    prompts = [rows[group[0]].prompt for group in groups]
    ids = [
        torch.cat([prompt.input_ids, *(rows[i].answer_ids for i in group)])
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    prompt_R = [len(prompt.input_ids) for prompt in prompts]
    lengths = [[len(rows[i].answer_ids) for i in group] for group in groups]
    row_B, start_B, prompt_B = (torch.zeros(len(rows), dtype=torch.int64) for _ in range(3))
    for row, group in enumerate(groups):
        start = prompt_R[row]
        for i, length in zip(group, lengths[row], strict=True):
            row_B[i], start_B[i], prompt_B[i] = row, start, prompt_R[row]
            start += length
    answer_B = torch.tensor([len(row.answer_ids) for row in rows])
    answers_BT = pad_right([row.answer_ids for row in rows], vlm.pad_id)
    mask_BT = length_mask(answer_B, answers_BT.shape[1])
    at_BT = start_B.unsqueeze(1) - 1 + torch.arange(answers_BT.shape[1])
    at_BT[:, :1] = prompt_B.unsqueeze(1) - 1  # the first token of each answer follows the prompt
    batch = TokenBatch(
        inputs=_join(vlm, prompts, ids),
        prompts=tuple(prompts),
        layout=lay_out(prompt_R, lengths) if len(groups) < len(rows) else None,
        row_B=row_B,
        answer_ids_BT=answers_BT,
        answer_mask_BT=mask_BT,
        at_BT=at_BT.masked_fill(~mask_BT, 0),
        last_B=torch.where(answer_B > 0, start_B + answer_B, prompt_B) - 1,
        record_ids=tuple(row.prompt.record.id for row in rows),
    )
    return batch if device is None else to_device(batch, device)


def _groups(vlm: VLM, rows: Sequence[Row]) -> list[list[int]]:
    """Which rows are laid into one, by their index."""
    if not vlm.shares_prefix:
        return [[i] for i in range(len(rows))]
    same: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        same.setdefault(id(row.prompt), []).append(i)
    width = vlm.head.weight.shape[1]
    groups = []
    for members in same.values():
        longest = max(len(rows[i].answer_ids) for i in members)
        prefix = len(rows[members[0]].prompt.input_ids)
        most = len(members)
        if vlm.shared_tokens is not None:
            # its layers count what they see back along the row, so all of it must be in sight
            most = max(1, min(most, (vlm.shared_tokens - prefix) // max(1, longest)))
        size = answers_a_row(prefix, longest, most, width)
        groups += [members[i : i + size] for i in range(0, len(members), size)]
    return groups


def micro_batches(
    rows: Sequence[Row], size: int, tokens: int | None = None, vlm: VLM | None = None
) -> list[list[int]]:
    """All rows, by their index, in batches of at most `size`: answers to one prompt stay together where they fit, and
    rows of like length come together, so that little is padded.

    With `tokens`, a batch has at most so many, padding and image tokens included, as `vlm` lays it out (without it: a
    row an answer); an answer that has more by itself comes alone.
    """

    def fits(batch: list[int]) -> bool:
        return len(batch) <= size and (
            tokens is None or padded_tokens([rows[i] for i in batch], vlm) <= tokens
        )

    same: dict[int, list[list[int]]] = {}
    for i, row in enumerate(rows):
        _fill(same.setdefault(id(row.prompt), []), [i], fits)
    parts = [part for pieces in same.values() for part in pieces]
    parts.sort(key=lambda part: (len(part) < size, _row_length(rows, part), part[0]))
    batches: list[list[int]] = []
    for part in parts:
        _fill(batches, part, fits)
    return batches


def _fill(batches: list[list[int]], part: list[int], fits: Callable[[list[int]], bool]) -> None:
    """Adds a part to the last batch, or begins a new one with it."""
    if batches and fits(batches[-1] + part):
        batches[-1] = batches[-1] + part
    else:
        batches.append(part)


def padded_tokens(rows: Sequence[Row], vlm: VLM | None = None) -> int:
    """How many tokens `collate` would make of rows, padding included; without `vlm`: in a row an answer."""
    groups = _groups(vlm, rows) if vlm else [[i] for i in range(len(rows))]
    longest = max(
        len(rows[group[0]].prompt.input_ids) + sum(len(rows[i].answer_ids) for i in group) for group in groups
    )
    return len(groups) * longest


def _row_length(rows: Sequence[Row], part: Sequence[int]) -> int:
    return len(rows[part[0]].prompt.input_ids) + max(len(rows[i].answer_ids) for i in part)


def collate_prompts(vlm: VLM, prompts: Sequence[EncodedPrompt], device: torch.device) -> dict[str, Tensor]:
    """Prompts without answers, as a forward's inputs, padded on the right."""
    inputs = _join(vlm, prompts, [prompt.input_ids for prompt in prompts])
    return {name: value.to(device) for name, value in inputs.items()}


def to_device(batch: TokenBatch, device: torch.device) -> TokenBatch:
    """The batch with every tensor on `device`."""
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in vars(batch).items() if isinstance(value, Tensor)
    }
    moved["inputs"] = {name: value.to(device) for name, value in batch.inputs.items()}
    moved["layout"] = batch.layout and batch.layout.to(device)
    return dataclasses.replace(batch, **moved)


def _join(vlm: VLM, prompts: Sequence[EncodedPrompt], ids: list[Tensor]) -> dict[str, Tensor]:
    size = max(len(row) for row in ids)

    def pad(row: Tensor, value: int) -> Tensor:
        return F.pad(row, (0, size - len(row)), value=value)

    inputs = {
        "input_ids": torch.stack([pad(row, vlm.pad_id) for row in ids]),
        "attention_mask": torch.stack([pad(torch.ones_like(row), 0) for row in ids]),
    }
    for name in sorted({name for prompt in prompts for name in prompt.token_fields}):
        fields = [prompt.token_fields.get(name, torch.zeros_like(prompt.input_ids)) for prompt in prompts]
        inputs[name] = torch.stack([pad(row, vlm.answer_type) for row in fields])
    for name in sorted({name for prompt in prompts for name in prompt.vision}):
        # some are made for some pictures only, such as those that are large enough to be tiled
        value = _concat([prompt.vision[name] for prompt in prompts if name in prompt.vision])
        # not every tower turns what its processor gives (Llama 4's: bfloat16) into its own precision
        inputs[name] = value.to(vlm.core.dtype) if value.is_floating_point() else value
    return inputs


def _concat(parts: list[Tensor]) -> Tensor:
    """Joins along the first dimension (images, patches or samples); the others are zero-padded to their largest.

    Families that pad tiles (SmolVLM, LLaVA-OneVision) know them by their zeros or by a count beside them.
    """
    if parts[0].dim() > 1:
        sizes = [max(part.shape[d] for part in parts) for d in range(1, parts[0].dim())]
        padded = []
        for part in parts:
            room = [n for d in range(part.dim() - 1, 0, -1) for n in (0, sizes[d - 1] - part.shape[d])]
            padded.append(F.pad(part, room) if any(room) else part)
        parts = padded
    return torch.cat(parts)
