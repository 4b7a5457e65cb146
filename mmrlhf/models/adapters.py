"""LoRA adapters at work: one model holds several, and a forward reads with one of them.

So a reward model that was trained on the policy's own base needs no second copy of it: its adapter lies beside the
policy's. Only the first one, which peft calls "default", is ever trained.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn

from data_tools.errors import UserError
from mmrlhf.tensors import hash_tensors

if TYPE_CHECKING:
    from mmrlhf.models.vlm import VLM

OWN = "default"  # peft's name for a model's first adapter
NOT_THE_MODEL = {"_name_or_path", "transformers_version"}  # of a config: where it lay, what wrote it


def lora_layers(model: nn.Module) -> list[Any]:
    """The layers that adapters change."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


@contextlib.contextmanager
def at_work(model: nn.Module, adapter: str) -> Iterator[None]:
    """While it lasts, forwards read with this adapter, where the model holds several. What is trained stays as it is;
    peft's own switch would train the one at work and freeze the others."""
    layers = lora_layers(model) if len(getattr(model, "peft_config", ())) > 1 else []
    before = [list(layer.active_adapters) for layer in layers]
    if all(names == [adapter] for names in before):
        yield
        return
    try:
        _switch(layers, [[adapter]] * len(layers))
        yield
    finally:
        _switch(layers, before)


@contextlib.contextmanager
def none_at_work(model: nn.Module) -> Iterator[None]:
    """While it lasts, forwards read without any adapter. As peft's `disable_adapter`, which looks at the state of every
    layer of the model first: 15 ms for a small one, twice a step."""
    layers = [layer for layer in lora_layers(model) if not layer.disable_adapters]
    try:
        for layer in layers:
            with _as_trained(layer):
                layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            with _as_trained(layer):
                layer.enable_adapters(True)


def _switch(layers: Sequence[Any], adapters: Sequence[list[str]]) -> None:
    for layer, names in zip(layers, adapters, strict=True):
        with _as_trained(layer):
            layer.set_adapter(names)


@contextlib.contextmanager
def _as_trained(module: nn.Module) -> Iterator[None]:
    """Whatever happens meanwhile, the same parameters are trained afterwards."""
    trained = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for parameter, flag in trained:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def merged_adapters(vlm: VLM) -> Iterator[None]:
    """While it lasts, the model's adapter is added into the weights that it changes, so that a forward over few tokens
    isn't slowed down by many small products. For sampling: there are no gradients for the adapter meanwhile.

    The weights themselves aren't touched: sums stand in their place, and give it back in the end, whatever happens. For
    that long there is one more copy in memory of the weights that have adapters. In float32 only, where the sum changes
    log-probs by rounding alone (1e-5); in bfloat16 it would round much of the adapter away, and the policy that samples
    would not be the one that trains. There adapters stay beside their layers.
    """
    layers = [layer for layer in lora_layers(vlm.core) if vlm.adapter in layer.lora_A]
    own = [(layer.get_base_layer(), layer.get_base_layer().weight) for layer in layers]
    if not layers or torch.is_autocast_enabled(vlm.device.type) or not all(map(_may_merge, layers)):
        with at_work(vlm.model, vlm.adapter):
            yield
        return
    with _as_trained(vlm.model):
        try:
            with torch.no_grad():
                for layer, (base, weight) in zip(layers, own, strict=True):
                    whole = weight + layer.get_delta_weight(vlm.adapter)
                    base.weight = nn.Parameter(whole, requires_grad=False)
            with vlm.adapters_off():
                yield
        finally:
            for base, weight in own:
                base.weight = weight


def _may_merge(layer: Any) -> bool:
    weight = layer.get_base_layer().weight
    plain = (
        type(weight) is nn.Parameter and type(weight.data) is torch.Tensor and weight.dtype == torch.float32
    )
    return plain and not layer.disable_adapters and not layer.merged


def load_beside(vlm: VLM, directory: Path, name: str) -> None:
    """Loads an adapter of the same base beside the model's own, frozen; forwards go on with the model's own.

    Raises:
        UserError: it can't be read, or isn't one of such a model.
    """
    model: Any = vlm.model
    try:
        with _as_trained(model):
            found = model.load_adapter(str(directory), name, is_trainable=False, torch_device=str(vlm.device))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"{directory}: its adapter can't be loaded: {error}") from error
    if odd := [*found.missing_keys, *found.unexpected_keys]:
        raise UserError(f"{directory}: its adapter doesn't fit the model (differs in {odd[0]})")
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            parameter.requires_grad_(False)
    model.eval()


def base_fingerprint(vlm: VLM) -> str:
    """A hash of the model without its adapters: its class, its config, and every weight to the bit."""
    core = vlm.core
    settings = json.dumps(_of_the_model(core.config.to_dict()), sort_keys=True, default=str)
    weights = {
        name.replace(".base_layer.", "."): value
        for name, value in core.state_dict().items()
        if ".lora_" not in name
    }
    text = f"{type(core).__name__} {settings} {hash_tensors(sorted(weights.items()))}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _of_the_model(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _of_the_model(part) for key, part in value.items() if key not in NOT_THE_MODEL}
    return value
