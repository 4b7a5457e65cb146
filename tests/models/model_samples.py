"""Records with none, one and several pictures, and their rows."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image

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
