"""FSDP2 (`torch.distributed.fsdp.fully_shard`): weights, gradients and optimizer state are split over processes.

The layers of the language model are gathered one by one as a forward or backward reaches them; all else (embeddings,
heads, vision tower) forms one group that is gathered at the top of each forward, so that a process whose micro-batch
holds no image takes part all the same. Two more things keep processes in step: each weight of that group gets a
gradient in each backward, if only zeros, and a process with fewer micro-batches than another adds idle ones.

Whatever needs no gradient (sampling, scoring, log-probs of a rollout) runs under `gathered`: the weights are put
together once, and the processes need not keep step until they are let go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, user
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.parts import parts_of
from mmrlhf.models.probe import picture
from mmrlhf.models.vlm import VLM
from mmrlhf.training.processes import everyones
from mmrlhf.types import Row, TokenBatch

IDLE = ("idle",)  # the record that idle batches are made of


def shard(module: Any, vlm: VLM, accelerator: Accelerator) -> TokenBatch:
    """Splits a stage's module in place; the optimizer must be made of its parameters afterwards. Gives the batch
    for idle rounds.

    Raises:
        UserError: the language model's layers can't be found.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    idle = idle_batch(vlm)
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    module.saw_a_picture = False
    module.register_forward_hook(_touch_all)  # before that of fully_shard, which lets the weights go
    for layer in _layers(vlm):
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    with torch.no_grad():
        module(idle)  # the first forward must come from the top
    for part in _parts(module):
        part.reshard()
    return idle


def _layers(vlm: VLM) -> nn.ModuleList:
    lists = [m for m in parts_of(vlm.core, vlm.path).language.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise UserError(
            f"model {vlm.path}: its language model has no list of layers; set engine.shard to false"
        )
    return max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))


def _touch_all(module: Any, args: Any, output: Any) -> Any:
    """Adds nothing to the output, but lets each weight outside the layers take part in its backward pass."""
    if not torch.is_grad_enabled():
        return output
    loose = _loose(module)
    if not loose:
        return output
    batch: TokenBatch = args[0]
    if batch.record_ids != IDLE:
        module.saw_a_picture |= any(prompt.vision for prompt in batch.prompts)
    nothing = torch.stack([p.reshape(-1)[0].float() for p in loose]).sum() * 0.0
    if isinstance(output, Tensor):
        return output + nothing
    # all of them made anew: FSDP warns of outputs that are views
    return type(output)(*(part if part is None else part + nothing for part in output))


def _loose(module: nn.Module) -> list[nn.Parameter]:
    """The trained weights outside the layers."""
    inner = {id(p) for part in _parts(module) if part is not module for p in part.parameters()}
    return [p for p in module.parameters() if p.requires_grad and id(p) not in inner]


def forget_unused(module: Any, vlm: VLM, unused: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Sets the gradients of `unused` to None, and those of tower and projector where no process met a picture in an
    update: an optimizer moves a weight whose gradient is 0, by decay and by what it remembers, and leaves one alone
    that has none."""
    for parameter in unused:
        parameter.grad = None
    if not any(everyones(accelerator, module.saw_a_picture)):
        parts = parts_of(vlm.core, vlm.path)
        seeing = [p for part in (*parts.towers, *parts.projectors) for p in part.parameters()]
        for parameter in (*seeing, *parts.marks):
            parameter.grad = None
    module.saw_a_picture = False


def _parts(module: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [part for part in module.modules() if isinstance(part, FSDPModule)]


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """While it lasts, each process holds all weights of a sharded module, and may run what it likes without gradients;
    nothing changes for a module that isn't sharded."""
    parts = _parts(module)
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            _forget_forwards(part)
            part.reshard()
            part.set_reshard_after_forward(part is not module, recurse=False)


def _forget_forwards(part: Any) -> None:
    """Drops the order in which layers ran: a backward pass fetches the next layer's weights by it, and after forwards
    that processes did without keeping step it would fetch others on one than on another, and wait for ever."""
    state = part._get_fsdp_state()  # FSDP2 has no public way
    state._comm_ctx.post_forward_order.clear()
    for group in getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]:
        if group is not None:
            group._post_forward_indices.clear()


def idle_record() -> PreferenceRecord:
    """A picture and a question, of no data set."""
    return PreferenceRecord(*IDLE, "idle", (user(0, "What is it?"),), images=(picture((64, 48)),))


def idle_batch(vlm: VLM) -> TokenBatch:
    """A picture with a short answer, for a forward whose loss counts nothing."""
    record = idle_record()
    return collate(vlm, [Row(encode_prompt(vlm, record), encode_answer(vlm, "Nothing."))], vlm.device)


def idle_loss(module: nn.Module, batch: TokenBatch) -> Tensor:
    """0, with the gradient 0 for every weight."""
    output = module(batch)
    return (output if isinstance(output, Tensor) else output.logprobs_BT).sum() * 0.0


def whole(value: Any, keep: bool = True) -> Any:
    """A nested state with each sharded tensor put together in the host's memory, one after the other: a device has no
    room for all of them. Every process must call it; where not `keep`, it gets None in their place."""
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if keep else None
    if isinstance(value, dict):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item, keep) for item in value)
    return value


def sharded_like(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state with whole tensors, split as the weights that it belongs to are."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]

    def split(number: int, value: Any) -> Any:
        weight = weights[number]
        if isinstance(weight, DTensor) and isinstance(value, Tensor) and value.shape == weight.shape:
            return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
        return value

    moments = {
        number: {name: split(number, value) for name, value in of.items()}
        for number, of in state["state"].items()
    }
    return {**state, "state": moments}
