"""The parts of a vision-language model: which are trained, LoRA on them, and saving them for plain libraries."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.adapter_files import MARK, save_adapter
from mmrlhf.models.adapters import OWN
from mmrlhf.models.lora_linear import fuse_adapters
from mmrlhf.models.merged import merged_state
from mmrlhf.models.weight_names import named_as_on_hub
from mmrlhf.terminal import console

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
    language = getattr(trunk, "language_model", None) or getattr(trunk, "text_model", None) or _loose(trunk)
    if language is None:
        raise UserError(
            f"model {path}: its {type(trunk).__name__} has no language_model, so what to train can't be told apart"
        )
    inside = set(language.children()) if isinstance(language, nn.ModuleDict) else {language}
    others = {name: child for name, child in trunk.named_children() if child not in inside}
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


def _loose(trunk: Any) -> nn.ModuleDict | None:
    """The language model of a trunk that holds its layers itself, beside models of vision (Chameleon): all that isn't
    one, nor has one inside, nor is a projector."""
    from transformers import PreTrainedModel

    found = {
        name: child
        for name, child in trunk.named_children()
        if "project" not in name and not any(isinstance(inner, PreTrainedModel) for inner in child.modules())
    }
    return nn.ModuleDict(found) if trunk.get_input_embeddings() in found.values() else None


def find_head(model: Any) -> Any:
    """The layer over a model's vocabulary, which may be its language model's (Nemotron); None where it has none."""
    head = model.get_output_embeddings()
    inner: Any = getattr(model, "language_model", None)
    if head is None and hasattr(inner, "get_output_embeddings"):
        head = inner.get_output_embeddings()
    return head


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
    """LoRA on the linear layers of the parts that are asked for, by their names in this model; never on the head.

    Raises:
        UserError: a part has no linear layer, or none that `targets` names; the message lists the names there are.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraLayer

    chosen = adapted_layers(model, lora, path)

    def adapted(names: list[str]) -> Any:
        settings = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=names)
        return _with_adapters(model, settings, path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of names that it changed itself, seen to below
        peft_model = adapted(chosen)
    plain = [name for name in chosen if isinstance(model.get_submodule(name), LoraLayer)]
    if len(plain) < len(chosen):
        # in some mixtures of experts peft takes such names for the experts' own weights, and puts adapters there
        peft_model.unload()
        peft_model = adapted(plain)
    # peft holds the names in a set, whose order, and so the saved file, would be another in every process
    own = peft_model.peft_config[OWN]
    own.target_modules = sorted(own.target_modules)
    fuse_adapters(peft_model)
    return peft_model


def adapted_layers(model: nn.Module, lora: LoraSettings, path: str) -> list[str]:
    """The names of the linear layers that adapters are asked on.

    Raises:
        UserError: as `add_lora` does.
    """
    chosen: list[str] = []
    for part, linears in _linears(model, path).items():
        if part not in lora.parts:
            continue
        if not linears:
            raise UserError(
                f"model {path}: lora.parts asks for {part}, but its {part} has no linear layer; leave it out"
            )
        chosen += linears
    known = sorted({name.rsplit(".", 1)[-1] for name in chosen})
    if lora.targets is not None:
        if unknown := [target for target in lora.targets if target not in known]:
            raise UserError(
                f"model {path}: lora.targets names no linear layer {', '.join(unknown)} in {' and '.join(lora.parts)} "
                f"(there are {', '.join(known)})"
            )
        chosen = [name for name in chosen if name.rsplit(".", 1)[-1] in lora.targets]
    return chosen


def _with_adapters(model: nn.Module, settings: Any, path: str) -> Any:
    from peft import get_peft_model

    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"model {path}: peft can't put adapters where lora.targets says: {error}") from error


def _linears(model: Any, path: str) -> dict[str, list[str]]:
    """The names of the linear layers of each part. What lies in a projector inside a tower is the projector's; what is
    for sound is no part."""
    parts = parts_of(model, path)
    head = find_head(model)
    owner = {module: "vision" for tower in parts.towers for module in tower.modules()}
    owner |= {module: "projector" for projector in parts.projectors for module in projector.modules()}
    owner |= dict.fromkeys(parts.language.modules(), "language")
    found: dict[str, list[str]] = {"language": [], "projector": [], "vision": []}
    for name, module in model.named_modules():
        # a subclass may give back more than a linear layer does (Llama 4's router), and an indexer only chooses which
        # tokens are looked at, through which no gradient goes
        skipped = "audio" in name or "indexer" in name
        if type(module) is nn.Linear and module in owner and module is not head and not skipped:
            found[owner[module]].append(name)
    return found


def left_without_adapters(model: nn.Module, path: str) -> str:
    """The language model's matrices that LoRA leaves as they are, since they are no linear layers (routed experts);
    by their last two names, empty where there are none."""
    language = parts_of(model, path).language
    stacked = {
        ".".join(name.split(".")[-2:]) for name, value in language.named_parameters() if value.dim() > 2
    }
    return ", ".join(sorted(name for name in stacked if MARK not in f".{name}"))


def save_vlm(vlm: VLM, directory: Path) -> None:
    """Saves for plain transformers and engines that read the hub's checkpoints: the model, with adapters merged into a
    copy of the weights they change, and the processor; with LoRA the adapter too, in `adapter/`, for plain peft.
    Others' adapters beside it are left out. Says where rounding takes much of a merged adapter."""
    directory.mkdir(parents=True, exist_ok=True)
    state = vlm.core.state_dict()
    if vlm.has_adapters:
        save_adapter(vlm, directory / "adapter")
        merged = merged_state(vlm)
        state = merged.state
        if merged.in_float32:
            console.print(
                f"model {vlm.path}: in bfloat16 rounding would take {merged.lost:.0%} of what training changed, so the "
                "weights with adapters are saved in float32. What reads the merged model in bfloat16, as later stages "
                "and the evaluation do unless model.dtype is float32, loses that part; adapter/, beside it, on the "
                "model that training began from loses nothing",
                style="yellow",
                markup=False,
            )
    vlm.core.save_pretrained(directory, state_dict=named_as_on_hub(vlm.core, state))
    vlm.processor.save_pretrained(directory)
