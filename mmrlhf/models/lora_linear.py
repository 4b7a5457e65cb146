"""A linear layer and its adapter in one product: y = x W' + s (x A') B'.

peft computes the adapter's part by itself, scales it and adds it, which reads and writes as much as the layer's whole
output three times, and as often in the backward pass. Here it is added while it is computed (`addmm`). The sums are the
same, to rounding. On two CPU cores a forward and backward of a small model with rank 8 takes nine tenths of the time.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmrlhf.models.adapters import lora_layers


def fuse_adapters(model: nn.Module) -> None:
    """Gives a peft model's linear layers this forward; it hands over to peft's own wherever it isn't the same: adapters
    that are off, merged, several at once or of another kind, weights that aren't plain, autocast."""
    from peft.tuners.lora.layer import Linear

    for layer in lora_layers(model):
        if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
            layer.forward = types.MethodType(_forward, layer)


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    names = layer.active_adapters
    if args or kwargs or layer.disable_adapters or layer.merged or len(names) != 1:
        return type(layer).forward(layer, x, *args, **kwargs)
    (name,) = names
    if name not in layer.lora_A or not _plain(layer, name, x):
        return type(layer).forward(layer, x)
    base, down, up = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    return _Adapted.apply(x, base.weight, base.bias, down.weight, up.weight, layer.scaling[name])


def _plain(layer: Any, name: str, x: Tensor) -> bool:
    base, down, up = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    weights = (base.weight, down.weight, up.weight)
    return (
        name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and up.bias is None
        and not torch.is_autocast_enabled(x.device.type)
        and all(type(w.data) is Tensor and w.dtype == x.dtype for w in weights)
        # they are frozen wherever adapters are trained; a gradient for them is peft's to give
        and not any(p.requires_grad for p in base.parameters())
    )


class _Adapted(torch.autograd.Function):
    """x (..., I), W (O, I), bias (O) or None, A (R, I), B (O, R), s -> (..., O); no gradient for W and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        inner_NR = x_NI @ down.T
        # made in its last shape: a view that is given back couldn't be changed in place, as Gemma 3n does
        y = x_NI.new_empty(*x.shape[:-1], weight.shape[0])
        y_NO = y.view(-1, weight.shape[0])
        if bias is None:
            torch.mm(x_NI, weight.T, out=y_NO)
        else:
            torch.addmm(bias, x_NI, weight.T, out=y_NO)
        y_NO.addmm_(inner_NR, up.T, alpha=scale)
        ctx.save_for_backward(x_NI, inner_NR, weight, down, up)
        ctx.scale, ctx.shape = scale, x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, inner_NR, weight, down, up = ctx.saved_tensors
        to_x, _, _, to_down, to_up, _ = ctx.needs_input_grad
        grad_NO = grad.reshape(-1, grad.shape[-1])
        grad_NR = (grad_NO @ up).mul_(ctx.scale)
        grad_x = (grad_NO @ weight).addmm_(grad_NR, down).view(ctx.shape) if to_x else None
        grad_down = grad_NR.T @ x_NI if to_down else None
        grad_up = (grad_NO.T @ inner_NR).mul_(ctx.scale) if to_up else None
        return grad_x, None, None, grad_down, grad_up, None
