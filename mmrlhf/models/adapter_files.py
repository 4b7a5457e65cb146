"""What is saved of an adapter, under names that plain peft reads back.

peft turns the names in an adapter's file into those of today's model by the rules that transformers has for old
checkpoints. In some families those rules change today's names too (`experts` becomes `mlp.experts`, also behind `mlp`),
and peft loses what it then doesn't know. There the names of the family's checkpoints are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from data_tools.errors import UserError
from mmrlhf.models.adapters import OWN

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

PREFIX = "base_model.model."
MARK = ".lora_"


def save_adapter(vlm: VLM, directory: Path) -> None:
    """Saves the model's own adapter for plain peft; others beside it are left out.

    Raises:
        UserError: peft wouldn't read it back.
    """
    from safetensors.torch import save_file

    model: Any = vlm.model
    model.save_pretrained(directory, selected_adapters=[OWN])
    state = adapter_state(vlm)
    whole = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(whole, directory / "adapter_model.safetensors", metadata={"format": "pt"})


def adapter_state(vlm: VLM) -> dict[str, Tensor]:
    """The adapter's weights by the names under which peft reads them back.

    Raises:
        UserError: under none that is known.
    """
    from peft import __version__, get_peft_model_state_dict

    own: dict[str, Tensor] = get_peft_model_state_dict(
        vlm.model, adapter_name=OWN, save_embedding_layers=False
    )
    if _reads_back(vlm, own, own):
        return own
    old = _named_as_in_checkpoints(vlm.core, own)
    if _reads_back(vlm, old, own):
        return old
    raise UserError(
        f"model {vlm.path}: peft {__version__} can't read an adapter of {type(vlm.core).__name__} back from its file, "
        "so what is trained would be lost; train it without model.lora"
    )


def _reads_back(vlm: VLM, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether peft makes of what is saved what it is in the model."""
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers
    except ImportError:
        return saved is own  # names are read as they are
    model: Any = vlm.model
    try:
        read = convert_peft_adapter_state_dict_for_transformers(
            model, model.peft_config[OWN], dict(saved), OWN
        )
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    return read.keys() == own.keys() and all(torch.equal(read[name], own[name]) for name in own)


def _named_as_in_checkpoints(core: Any, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that their layers have in a checkpoint that transformers saves."""
    from transformers.core_model_loading import revert_weight_conversion

    layers = {name.removeprefix(PREFIX).split(MARK)[0] for name in own}
    old: dict[str, str] = {}
    for layer in layers:
        weight = core.get_submodule(layer).weight
        names = list(
            revert_weight_conversion(core, {f"{layer}.weight": torch.zeros_like(weight, device="cpu")})
        )
        old[layer] = names[0].removesuffix(".weight") if len(names) == 1 else layer
    found = {}
    for name, value in own.items():
        layer, _, rest = name.removeprefix(PREFIX).partition(MARK)
        found[f"{PREFIX}{old[layer]}{MARK}{rest}"] = value
    return found
