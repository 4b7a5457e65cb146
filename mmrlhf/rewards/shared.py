"""The reward model within the policy's model: one frozen base, an adapter for each, and the heads.

That is so where both were trained through LoRA from the same weights, to the bit (the card holds their fingerprint),
and read records alike; so prompts and image features serve both. The policy is never read with the reward model's
adapter, and nothing of it is trained or saved with the policy.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from data_tools.errors import UserError
from mmrlhf.config import ModelConfig
from mmrlhf.file_hashes import check_hashes
from mmrlhf.models.adapters import base_fingerprint, load_beside
from mmrlhf.models.load import limit_pixels
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import RewardModel, read_files, with_heads

ADAPTER = "reward"


def why_apart(directory: Path, settings: ModelConfig, vlm: VLM) -> str:
    """Why a saved reward model, with its settings, can't be read within the policy's model; empty where it can.

    Raises:
        UserError: not a reward model's folder, or damaged.
    """
    card, _ = read_files(directory)
    check_hashes(directory, lambda name: name.startswith("adapter/"))
    if not vlm.has_adapters:
        return "the policy is trained without LoRA"
    if not (directory / "adapter").is_dir():
        return "it was trained without LoRA"
    if card.base is None:
        return "its card doesn't tell what its adapter was trained on"
    at_work = vlm.core.config.get_text_config()._attn_implementation
    if settings.attn_implementation not in ("auto", at_work):
        return f"its attention is {settings.attn_implementation} and the policy's {at_work}"
    if _reaches_beyond_language(directory, vlm):
        return "its adapter lies in the vision tower or projector too, so that image features aren't the policy's"
    if dataclasses.replace(vlm, processor=_processor(directory, settings)).reading != vlm.reading:
        return "its processor isn't the policy's"
    if card.base != base_fingerprint(vlm):
        return "it was trained on other weights than the policy starts from, or in another precision"
    return ""


def _reaches_beyond_language(directory: Path, vlm: VLM) -> bool:
    path = directory / "adapter" / "adapter_model.safetensors"
    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: can't be read: {error}") from error
    adapted = {name.removeprefix("base_model.model.").split(".lora_")[0] for name in names}
    inside = {id(module) for module in parts_of(vlm.core, vlm.path).language.modules()}
    return not {name for name, module in vlm.core.named_modules() if id(module) in inside} >= adapted


def _processor(directory: Path, settings: ModelConfig) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(
            directory, trust_remote_code=settings.trust_remote_code, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{directory}: its processor can't be loaded: {error}") from error
    limit_pixels(processor, settings)
    return processor


def load_within(directory: Path, vlm: VLM) -> RewardModel:
    """The reward model as an adapter in the policy's model, with heads of its own; frozen, ready to score. Only where
    `why_apart` says nothing.

    Raises:
        UserError: its parts can't be read or don't fit each other.
    """
    card, heads = read_files(directory)
    load_beside(vlm, directory / "adapter", ADAPTER)
    return with_heads(dataclasses.replace(vlm, path=str(directory), adapter=ADAPTER), card, heads)
