"""The parts of a vision-language model: which are trained, LoRA on them, and saving them for plain libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.adapters import OWN

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

PROJECTORS = ("connector", "aligner", "embed_vision", "embed_audio")  # and whatever has "project" in its name


@dataclass(frozen=True)
class Parts:
    """What the modules of a vision-language model are for."""

    language: nn.Module
    projectors: tuple[nn.Module, ...]
    towers: tuple[nn.Module, ...]  # all the rest: of vision, and of sound where a family has one
    marks: tuple[nn.Parameter, ...]  # loose weights, such as LLaVA-NeXT's end of a row of patches


def parts_of(model: nn.Module, path: str) -> Parts:
    """Tells language model, projectors and towers apart: alike in all families but for a few names.

    What is no model of its own, next to one that is, is a projector too, such as Ovis's table of visual words.

    Raises:
        UserError: the language model isn't where transformers' families have it.
    """
    from transformers import PreTrainedModel

    trunk: Any = getattr(model, "model", model)
    language = getattr(trunk, "language_model", None) or getattr(trunk, "text_model", None)
    if language is None:
        raise UserError(
            f"model {path}: its {type(trunk).__name__} has no language_model, so what to train can't be told apart"
        )
    others = {name: child for name, child in trunk.named_children() if child is not language}
    models = {name for name, child in others.items() if isinstance(child, PreTrainedModel)}
    projectors = [
        child
        for name, child in others.items()
        if name in PROJECTORS or "project" in name or (models and name not in models)
    ]
    towers = [child for child in others.values() if child not in projectors]
    # Qwen's projectors lie inside its tower
    inner = [child for tower in towers for name, child in tower.named_children() if "merger" in name]
    return Parts(language, (*projectors, *inner), tuple(towers), tuple(trunk.parameters(recurse=False)))


def freeze(model: nn.Module, config: ModelConfig | None, path: str) -> None:
    """Marks what is trained: nothing (None), or all but what the config freezes."""
    model.requires_grad_(config is not None)
    if config is None:
        return
    parts = parts_of(model, path)
    for tower in parts.towers:
        tower.requires_grad_(not config.freeze_vision_tower)
    for projector in parts.projectors:
        projector.requires_grad_(not config.freeze_projector)
    for mark in parts.marks:
        mark.requires_grad_(not config.freeze_projector)


def add_lora(model: nn.Module, lora: LoraSettings, path: str) -> nn.Module:
    """LoRA on the linear layers of the language model (never the vision tower), by their names in this model.

    Raises:
        UserError: `targets` matches no linear layer; the message lists the names there are.
    """
    from peft import LoraConfig, get_peft_model

    language = {id(module) for module in parts_of(model, path).language.modules()}
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in language
    ]
    chosen = [name for name in linears if lora.targets is None or name.rsplit(".", 1)[-1] in lora.targets]
    if not chosen:
        known = sorted({name.rsplit(".", 1)[-1] for name in linears})
        raise UserError(
            f"model {path}: lora.targets {lora.targets} names no linear layer; there are {', '.join(known)}"
        )
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=chosen)
    adapted = get_peft_model(model, config)
    # peft holds the names in a set, whose order, and so the saved file, would be another in every process
    adapted.peft_config["default"].target_modules = sorted(adapted.peft_config["default"].target_modules)
    return adapted


def save_vlm(vlm: VLM, directory: Path) -> None:
    """Saves for plain transformers: the model, with adapters merged into a copy of the weights they change, and the
    processor; with LoRA the adapter too, in `adapter/`, for plain peft. Others' adapters beside it are left out."""
    directory.mkdir(parents=True, exist_ok=True)
    if vlm.has_adapters:
        vlm.model.save_pretrained(directory / "adapter", selected_adapters=[OWN])  # type: ignore[operator]
        vlm.core.save_pretrained(directory, state_dict=merged_state(vlm))
    else:
        vlm.core.save_pretrained(directory)
    vlm.processor.save_pretrained(directory)


def merged_state(vlm: VLM) -> dict[str, Tensor]:
    """The base model's state with its own adapter merged in; the model itself stays as it is (merging in place and
    undoing it would shift the reference by rounding)."""
    from peft.tuners.lora import LoraLayer

    state = {}
    changed = {
        f"{n}.weight": m for n, m in vlm.core.named_modules() if isinstance(m, LoraLayer) and OWN in m.lora_A
    }
    for name, value in vlm.core.state_dict().items():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer.", ".")
        layer = changed.get(name)
        state[name] = value if layer is None else value + layer.get_delta_weight(OWN).to(value.dtype)
    return state
