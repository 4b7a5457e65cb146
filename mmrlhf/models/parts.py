"""The parts of a vision-language model: which are trained, LoRA on them, and saving them for plain libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.vlm import VLM


def vision_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The vision tower and the projector of a transformers VLM, by their role, as far as the family has them."""
    trunk: Any = getattr(model, "model", model)
    tower = next((n for n in ("vision_tower", "visual", "vision_model") if hasattr(trunk, n)), None)
    joint = next((n for n in ("multi_modal_projector", "connector", "aligner") if hasattr(trunk, n)), None)
    found = {"tower": tower, "projector": joint}
    modules = {role: getattr(trunk, name) for role, name in found.items() if name}
    if "projector" not in modules and "tower" in modules and hasattr(modules["tower"], "merger"):
        modules["projector"] = modules["tower"].merger  # Qwen's projector lies inside its tower
    return modules


def freeze(model: nn.Module, config: ModelConfig | None) -> None:
    """Marks what is trained: nothing (None), or all but what the config freezes."""
    model.requires_grad_(config is not None)
    if config is None:
        return
    parts = vision_modules(model)
    if "tower" in parts and config.freeze_vision_tower:
        parts["tower"].requires_grad_(False)
    if "projector" in parts:
        parts["projector"].requires_grad_(not config.freeze_projector)


def add_lora(model: nn.Module, lora: LoraSettings, path: str) -> nn.Module:
    """LoRA on the linear layers of the language model (never the vision tower), by their names in this model.

    Raises:
        UserError: `targets` matches no linear layer; the message lists the names there are.
    """
    from peft import LoraConfig, get_peft_model

    vision = {id(m) for part in vision_modules(model).values() for m in part.modules()}
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in vision and module is not head
    ]
    chosen = [name for name in linears if lora.targets is None or name.rsplit(".", 1)[-1] in lora.targets]
    if not chosen:
        known = sorted({name.rsplit(".", 1)[-1] for name in linears})
        raise UserError(
            f"model {path}: lora.targets {lora.targets} names no linear layer; there are {', '.join(known)}"
        )
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=chosen)
    return get_peft_model(model, config)


def save_vlm(vlm: VLM, directory: Path) -> None:
    """Saves for plain transformers: the model, with adapters merged into a copy of the weights they change, and the
    processor; with LoRA the adapter too, in `adapter/`, for plain peft."""
    directory.mkdir(parents=True, exist_ok=True)
    if vlm.has_adapters:
        vlm.model.save_pretrained(directory / "adapter")  # type: ignore[operator]
        vlm.core.save_pretrained(directory, state_dict=merged_state(vlm))
    else:
        vlm.core.save_pretrained(directory)
    vlm.processor.save_pretrained(directory)


def merged_state(vlm: VLM) -> dict[str, Tensor]:
    """The base model's state with its adapters merged in; the model itself stays as it is (merging in place and
    undoing it would shift the reference by rounding)."""
    from peft.tuners.lora import LoraLayer

    state = {}
    changed = {f"{n}.weight": m for n, m in vlm.core.named_modules() if isinstance(m, LoraLayer)}
    for name, value in vlm.core.state_dict().items():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer.", ".")
        layer = changed.get(name)
        state[name] = value if layer is None else value + layer.get_delta_weight("default").to(value.dtype)
    return state
