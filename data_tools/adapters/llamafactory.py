"""LLaMA-Factory's DPO rows: `conversations`, `chosen`, `rejected`; `images` in place of `<image>` marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_tools.adapters.base import (
    FileSource,
    Rejected,
    RowError,
    check_roles,
    check_text,
    guarded,
    messages_with_images,
    pair,
    read_rows,
    take_image,
    take_list,
    take_text,
)
from data_tools.schema import PreferenceRecord

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
MARK = "<image>"


class LlamaFactoryConfig(FileSource):
    """LLaMA-Factory preference data in its ShareGPT form."""

    type: Literal["llamafactory"] = "llamafactory"
    images: Path | None = Field(
        default=None, description="The folder that image paths are in; null is the file's own."
    )
    objective: str = Field(default="helpfulness", min_length=1, description="What the choice was about.")

    def generate(self, seed: int) -> Iterator[PreferenceRecord | Rejected]:
        """See `read`; nothing here is random."""
        return read(self)


def adapt(row: object, config: LlamaFactoryConfig, where: str = "row") -> PreferenceRecord | Rejected:
    """A row as a record, or the reason why not."""
    return guarded(lambda fields: _convert(fields, config, where), row, where)


def read(config: LlamaFactoryConfig) -> Iterator[PreferenceRecord | Rejected]:
    """All rows of the file."""
    for item in read_rows(config.path, config.limit):
        yield item if isinstance(item, Rejected) else adapt(item[1], config, item[0])


def _convert(row: dict[str, Any], config: LlamaFactoryConfig, where: str) -> PreferenceRecord:
    for key in ("videos", "audios"):
        if take_list(row, key):
            raise RowError(f"has {key}, which are not supported")
    turns = [_turn(turn) for turn in take_list(row, "conversations")]
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.insert(0, ("system", check_text(row["system"], "system")))
    if not turns or turns[-1][0] != "user":
        raise RowError("conversations doesn't end with a human turn")
    check_roles([role for role, _ in turns])
    answers = []
    for key in ("chosen", "rejected"):
        role, text = _turn(row.get(key))
        if role != "assistant":
            raise RowError(f"{key} is no gpt turn")
        if MARK in text:
            raise RowError(f"{key} holds an {MARK} mark")
        answers.append(text)
    responses, comparisons = pair(answers[0], answers[1], config.objective)
    images = tuple(
        take_image(image, config.images or config.path.parent) for image in take_list(row, "images")
    )
    return PreferenceRecord(
        id=f"{config.name}-{where}",
        source=config.name,
        prompt=messages_with_images(turns, images, MARK),
        responses=responses,
        images=images,
        comparisons=comparisons,
    )


def _turn(turn: object) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise RowError("a turn is no {from, value} object")
    speaker = take_text(turn, "from", "from of a turn")
    if speaker not in ROLES:
        raise RowError("a turn is from none of human, gpt, system (tools are not supported)")
    return ROLES[speaker], take_text(turn, "value", "value of a turn")
