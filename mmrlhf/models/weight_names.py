"""The names under which weights are saved: those of the checkpoints on the hub, which engines such as vLLM read.

`save_pretrained` turns a family's own names back into the hub's, but for one: the towers of the CLIP kind (CLIP,
SigLIP), whose weights are called `vision_model.*` on the hub. Transformers 5 reads names with and without that part,
and writes it only for a model that was read with it. Others read the hub's names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PREFIX = "vision_model"


def named_as_on_hub(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's state for its `save_pretrained`, under names that give those of the hub: `model.vision_tower.x` of a
    SigLIP tower becomes `model.vision_tower.vision_model.x`. The tensors are the same."""
    towers = [f"{path}." for path in _clip_towers(model)]

    def rename(name: str) -> str:
        tower = next((tower for tower in towers if name.startswith(tower)), None)
        if tower is None or name.startswith(f"{tower}{PREFIX}."):
            return name
        return f"{tower}{PREFIX}.{name.removeprefix(tower)}"

    return {rename(name): value for name, value in state.items()}


def _clip_towers(model: nn.Module) -> list[str]:
    """The paths of the submodels whose weights transformers reads with and without the part."""
    from transformers import PreTrainedModel
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    def changes(submodel: PreTrainedModel) -> list[Any]:
        keys = (type(submodel).__name__, submodel.config.model_type)
        return next((found for key in keys if (found := get_checkpoint_conversion_mapping(key))), [])

    return [
        path
        for path, submodel in model.named_modules()
        if path
        and isinstance(submodel, PreTrainedModel)
        and any(getattr(change, "prefix_to_remove", None) == PREFIX for change in changes(submodel))
    ]
