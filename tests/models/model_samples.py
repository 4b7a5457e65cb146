"""Records with none, one and several pictures, and their rows."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image

from data_tools.images import read_image
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.policy import Policy
from mmrlhf.models.vlm import VLM
from mmrlhf.types import Row

WIDE, SQUARE, TALL = (56, 28), (28, 28), (28, 56)


def picture(color: str, size: tuple[int, int] = SQUARE) -> ImageRef:
    """A picture in two halves, one of them white, so that it has a shape too."""
    image = Image.new("RGB", size, color)
    image.paste((255, 255, 255), (0, 0, size[0] // 2, size[1] // 2))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return ImageRef.of_bytes(buffer.getvalue())


def record(name: str, *parts: str | int, images: Sequence[ImageRef] = ()) -> PreferenceRecord:
    return PreferenceRecord(id=name, source="test", prompt=(user(*parts),), images=tuple(images))


TEXT = record("text", "Name a colour.")
LONG_TEXT = record("long-text", "Name a colour, and say why it is the one that you like most of all.")
ONE = record("one", 0, "What color is the triangle?", images=[picture("red", WIDE)])
OTHER = record("other", 0, "Describe it.", images=[picture("blue")])
SEVERAL = record(
    "several",
    "From ",
    0,
    " to ",
    1,
    " and ",
    2,
    "what changes?",
    images=[picture("red"), picture("green", TALL), picture("blue", WIDE)],
)
MIXED = [TEXT, ONE, SEVERAL, LONG_TEXT, OTHER]
ANSWERS = ["Red.", "It is green and large.", "A circle", "", "There are three small shapes."]


def mixed(vlm: VLM) -> list[PreferenceRecord]:
    """`MIXED`, without the record whose pictures of unlike shapes the family's processor can't put together."""
    one = type(vlm.processor).__name__ == "PerceptionLMProcessor"
    return [item for item in MIXED if not (one and item is SEVERAL)]


def rows_of(vlm: VLM, records: Sequence[PreferenceRecord], answers: Sequence[str]) -> list[Row]:
    rows = []
    for item, answer in zip(records, answers, strict=True):
        prompt = encode_prompt(vlm, item)
        rows.append(Row(prompt, encode_answer(vlm, answer)))
    return rows


@torch.no_grad()
def logprobs(vlm: VLM, rows: Sequence[Row]) -> list[torch.Tensor]:
    """The log-probs of each row's answer, from one batch."""
    batch = collate(vlm, rows)
    out = Policy(vlm)(batch).logprobs_BT
    return [out[i, : len(row.answer_ids)] for i, row in enumerate(rows)]


def chat(messages: list[tuple[str, str, int]]) -> list[dict]:
    """Messages of (role, text, pictures before it) as a chat template takes them."""
    return [
        {"role": role, "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}
        for role, text, images in messages
    ]


def plain_logprobs(vlm: VLM, item: PreferenceRecord, text: str, answer_ids: torch.Tensor) -> torch.Tensor:
    """Log-probs of an answer by transformers alone: one row, no padding, logits at every position."""
    pictures = [read_image(ref) for ref in item.images] or None
    prompt = vlm.processor.apply_chat_template(
        chat([("user", text, len(item.images))]), add_generation_prompt=True, tokenize=False
    )
    bos = vlm.tokenizer.bos_token
    add = not (bos and prompt.startswith(bos))
    inputs = dict(vlm.processor(text=[prompt], images=pictures, return_tensors="pt", add_special_tokens=add))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer_ids.unsqueeze(0)], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name, value in inputs.items():
        inputs[name] = value.float() if value.dtype == torch.bfloat16 else value  # Llama 4's pixels
    for name in {"mm_token_type_ids", "token_type_ids"} & inputs.keys():
        inputs[name] = torch.cat([inputs[name], inputs[name].new_zeros(1, len(answer_ids))], 1)
    with torch.no_grad():
        logits = vlm.core(**inputs).logits[0]
    logits[:, list(vlm.placeholder_ids)] = float("-inf")
    before = logits[-len(answer_ids) - 1 : -1].log_softmax(-1)
    return before[torch.arange(len(answer_ids)), answer_ids]


def disturb(vlm: VLM, std: float = 0.05) -> None:
    """Gives every adapter a share in the output, as training would."""
    generator = torch.Generator().manual_seed(1)
    for name, value in vlm.model.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=std, generator=generator)
