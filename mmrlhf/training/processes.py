"""What several processes do together; on one process each of these is what it is given.

A run gives the same numbers on any number of processes, to rounding, for the same global batch: prompts are dealt out
one by one, draws belong to prompts (`generate.sample`), what is compared or whitened is so over all processes' answers
(`Outcomes`), and gradients are summed and divided by what the whole batch holds.

DDP is left out on purpose. Its hooks expect every process to run through the same weights in each backward pass, which
batches of images and text don't do: a process whose share holds no image would leave the others waiting. Gradients are
summed here once an update instead, after the last backward; a weight that no process has used stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.types import Outcomes

T = TypeVar("T")
BUCKET = 2**24  # elements that are summed in one call
# where launchers write how many processes they started: torchrun and accelerate the first, mpirun and srun the others
WORLD_SIZES = (
    "WORLD_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
)


def check_launched(accelerator: Accelerator) -> None:
    """Sees that all processes which a launcher started work together.

    Raises:
        UserError: they don't, so that each would do the run by itself, in the same folder.
    """
    started = launched_processes()
    if started is None or started[1] == accelerator.num_processes:
        return
    name, count = started
    raise UserError(
        f"{name} says that a launcher started {count} processes, but {accelerator.num_processes} work together here, "
        "so each would do the run by itself. Start them with torchrun --nproc_per_node N -m mmrlhf ..., or accelerate "
        f"launch (docs/processes.md); where this process is meant to be alone, unset {name}"
    )


def launched_processes() -> tuple[str, int] | None:
    """How many processes a launcher says that it started, and the environment variable that says so; None where none
    says anything."""
    for name in WORLD_SIZES:
        value = os.environ.get(name, "")
        if value.isdecimal() and int(value):
            return name, int(value)
    return None


def everyones(accelerator: Accelerator, value: T) -> list[T]:
    """The values of all processes, in their order."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def total(accelerator: Accelerator, value: float) -> float:
    """The sum over all processes."""
    return float(sum(everyones(accelerator, float(value))))


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Sums gradients over all processes; weights that took part nowhere keep the gradient None."""
    if accelerator.num_processes == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=accelerator.device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    found = [p for p, any_ in zip(trained, used.tolist(), strict=True) if any_]
    for parameter in found:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([p.grad for p in found if p.grad is not None]):
        flat = torch.cat([grad.reshape(-1) for grad in bucket])
        dist.all_reduce(flat)
        for grad, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            grad.copy_(summed.view_as(grad))


def _buckets(grads: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gradients of one dtype together, about `BUCKET` elements at a time."""
    buckets: list[list[Tensor]] = []
    size = 0
    for grad in sorted(grads, key=lambda g: str(g.dtype)):  # stable: the same order on every process
        if not buckets or size + grad.numel() > BUCKET or buckets[-1][0].dtype != grad.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(grad)
        size += grad.numel()
    return buckets


def gather_outcomes(own: Outcomes, accelerator: Accelerator) -> tuple[Outcomes, Tensor]:
    """The outcomes of all processes, in the order of their prompts, and where this process's own stand: (B,)."""
    if accelerator.num_processes == 1:
        return own, torch.arange(len(own.group_B))
    parts = everyones(accelerator, own)
    size = max(part.mask_BT.shape[1] for part in parts)
    joined: dict[str, Any] = {
        name: _join([getattr(part, name) for part in parts], size if "T" in name.rpartition("_")[2] else 0)
        for name in vars(own)
    }
    order = joined["group_B"].argsort(stable=True)
    whole = Outcomes(**joined).select(order)
    begin = sum(len(part.group_B) for part in parts[: accelerator.process_index])
    place = order.argsort()
    return whole, place[begin : begin + len(own.group_B)]


def _join(parts: Sequence[Tensor | None], size: int) -> Tensor | None:
    """Some answers' tensors as one; those of tokens are padded to `size` (0: it is none)."""
    present = [part for part in parts if part is not None]
    if size:
        present = [
            torch.cat([part, part.new_zeros(len(part), size - part.shape[1], *part.shape[2:])], 1)
            for part in present
        ]
    return torch.cat(present) if present else None
