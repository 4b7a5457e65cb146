"""The only training loop: SFT, reward model and PPO are stages of it.

accelerate brings devices, precision and processes; the loop adds what decides whether a run can be trusted: sums
divided by what the whole update holds, a seed for each step that depends on the step alone (so a resumed run draws the
same numbers), a stop on the first loss that isn't finite, and checkpoints that are whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import Tensor, nn

from data_tools.errors import RunError, Stopped, UserError
from mmrlhf.config import EngineConfig, OptimConfig
from mmrlhf.models.policy import trainable_state
from mmrlhf.models.vlm import VLM
from mmrlhf.terminal import console, progress
from mmrlhf.training.best import Best
from mmrlhf.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    restore_weights,
    save_checkpoint,
    weights_at,
)
from mmrlhf.training.metrics import Means, MetricsWriter, metrics_of, read_metrics
from mmrlhf.training.optimizer import make_optimizer
from mmrlhf.training.processes import check_launched, everyones, launched_processes, sum_gradients
from mmrlhf.training.sharding import (
    forget_unused,
    gathered,
    idle_loss,
    shard,
    sharded_like,
    whole,
)
from mmrlhf.types import Sums


@dataclass(frozen=True)
class Update:
    """One optimizer step: this process's micro-batches, and what the sum of their losses is divided by."""

    micro_batches: Sequence[Any]
    denominator: float  # over the micro-batches of all processes
    # weights that no process's micro-batches use, which have to stay as they are
    unused: Sequence[nn.Parameter] = ()


@dataclass(frozen=True)
class LossSum:
    """The loss of a micro-batch, summed (not averaged), with its metrics and the records it came from."""

    loss: Tensor
    sums: Sums
    record_ids: tuple[str, ...]


class Stage(Protocol):
    """What the loop trains."""

    name: str
    vlm: VLM
    module: nn.Module
    optim: OptimConfig
    num_steps: int
    best_by: str | None = None  # the metric that chooses the best checkpoint
    # weights that are split over processes are put together while it lasts
    gathered: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for AdamW, each with its `peak_lr`."""

    def clip_groups(self) -> list[list[nn.Parameter]]:
        """Weights whose gradients are clipped together; the norm of the first of these is told in the metrics."""
        return [list(self.module.parameters())]

    def begin(self, folder: Path, step: int) -> None:
        """Called once before the first step, or before `step` where a run goes on; then `load_state_dict` was before.
        `folder` is the stage's own."""
        return

    def updates(self, step: int) -> Iterator[Update]:
        """The updates of a step (PPO: first the rollout). It may read the weights between updates."""

    def loss(self, micro_batch: Any) -> LossSum:
        """Forward and loss of one micro-batch."""

    def step_metrics(self) -> Sums:
        """What the step measured beside its losses."""

    def note(self, metrics: dict[str, float]) -> str:
        """A few words for the progress bar."""

    def watch(self, metrics: dict[str, float]) -> list[str]:
        """Looks at a step's means; what it answers is told to the user."""
        return []

    @property
    def lr_scale(self) -> float:
        """What the schedule's learning rate is multiplied with."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """The stage's own state as JSON values, the same on every process; each of them calls it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


class NonFiniteLoss(RunError):
    """A loss or gradient is NaN or infinite."""


def make_accelerator(config: EngineConfig) -> Accelerator:
    """accelerate's handle on devices and processes, with the precision that the config or the device asks for.

    Processes wait for the main one while it builds data or evaluates, which may take hours.

    Raises:
        UserError: the launcher asks for FSDP or DeepSpeed by accelerate's own plug-ins, which would be ignored here; or
            it started processes that can't work together.
    """
    precision = config.mixed_precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=12))
    # on CPUs accelerate takes up a launcher's processes only where it is asked for CPUs
    cpu = not torch.accelerator.is_available()
    try:
        accelerator = Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[patient])
    except ValueError as error:
        # torch and accelerate miss what a launcher would have set, such as MASTER_ADDR
        if launched_processes() is None:
            raise
        raise UserError(f"the launcher's processes can't be joined: {error} (docs/processes.md)") from error
    check_launched(accelerator)
    # it comes from the environment, too, and `backward` would divide the loss by it; the engine counts for itself
    accelerator.gradient_accumulation_steps = 1
    if config.shard and accelerator.num_processes == 1:
        console.print("engine.shard: does nothing on one process, which holds all weights", style="yellow")
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise UserError(
            f"the launcher asks for {kind.value}: launch plain processes (accelerate launch --multi_gpu, or torchrun), "
            "and set engine.shard to true to split the weights over them"
        )
    return accelerator


def learning_rate(peak: float, step: int, steps: int, config: OptimConfig) -> float:
    """The rate of a step (from 0), a function of the step alone: linear warm-up, then the schedule."""
    warm = config.warmup * steps
    if step + 1 < warm:
        return peak * (step + 1) / warm
    if config.schedule == "constant" or steps <= 1:
        return peak
    done = min(1.0, max(0.0, (step - warm) / max(1.0, steps - 1 - warm)))
    left = 1 - done if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return peak * (config.final + (1 - config.final) * left)


def weight_groups(
    module: nn.Module, config: OptimConfig, own_lr: dict[str, float] | None = None
) -> list[dict[str, Any]]:
    """AdamW's groups: weight decay on matrices only; parameters under a prefix of `own_lr` at their own rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        peak = next((lr for prefix, lr in (own_lr or {}).items() if name.startswith(prefix)), config.lr)
        decay = config.weight_decay if parameter.dim() >= 2 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return [
        {"params": p, "peak_lr": lr, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()
    ]


class Engine:
    """Trains one stage in its own folder."""

    def __init__(self, folder: Path, config: EngineConfig, seed: int, accelerator: Accelerator) -> None:
        self.folder, self.config, self.seed, self.accelerator = folder, config, seed, accelerator
        self.sharded = config.shard and accelerator.num_processes > 1
        self._stop = self._interrupted = False
        self._idle: Any = None
        self._best = Best(None)

    def train(self, stage: Stage) -> None:
        """Runs the stage to its end, going on from the newest whole checkpoint in the folder.

        Raises:
            NonFiniteLoss: with the ids of the batch's records; nothing of the bad update is kept.
            Stopped: on SIGTERM or Ctrl-C, after a checkpoint.
        """
        best = self._best = Best(stage.best_by)
        saved = latest_checkpoint(self.folder / "checkpoints")
        if saved:
            restore_weights(stage.module, saved.weights)
            stage.load_state_dict(saved.stage)
            rows = metrics_of(saved.records.get("metrics.jsonl", ""))
            best.go_on(saved.best, rows, self.folder / "checkpoints", self.config.checkpoint_every)
        optimizer = self._optimizer(stage, saved)
        start, records = (saved.step, saved.records) if saved else (0, {})
        saved = None  # its tensors needn't stay in memory for the whole run
        if len(starts := set(everyones(self.accelerator, start))) > 1:
            raise UserError(
                f"{self.folder}: the processes found checkpoints of different steps ({sorted(starts)}); output_dir "
                "must be a folder that all of them share"
            )
        stage.begin(self.folder, start)
        main = self.accelerator.is_main_process
        if main and (word := best.before(stage.num_steps, self.config.checkpoint_every)):
            console.print(f"{stage.name}: {word}", style="yellow")
        writer = self._writer(start, records) if main else None
        with self._signals(), progress(stage.name, stage.num_steps, quiet=not main) as bar:
            bar(start)
            for step in range(start, stage.num_steps):
                began = time.perf_counter()
                torch.manual_seed(step_seed(self.seed, stage.name, step))
                metrics = self._step(stage, optimizer, step)
                if writer:
                    writer.write(step + 1, metrics, time.perf_counter() - began)
                bar(step + 1, stage.note(metrics))
                best.add(metrics)
                self._watch(stage, optimizer, step, metrics, writer)
                stopping = self._stopping()
                due = (step + 1) % self.config.checkpoint_every == 0 or step + 1 == stage.num_steps
                if due:
                    best.checkpoint(step + 1)
                if due or stopping:
                    self._save(stage, optimizer, step + 1, writer)
                if stopping:
                    raise Stopped(
                        f"{stage.name} is saved at step {step + 1} of {stage.num_steps}", self._interrupted
                    )
        if writer:
            writer.close()
        stage.gathered = contextlib.nullcontext
        if main and (word := best.outcome()):
            console.print(f"{stage.name}: {word}", style="dim" if best.step else "yellow")

    def weights(self, stage: Stage) -> dict[str, Tensor]:
        """What training has made of the trained weights: those of the best checkpoint where a metric chooses it, else
        the last. Whole, on every process, each of which must call it."""
        if self._best.step is not None:
            return weights_at(self.folder / "checkpoints", self._best.step)
        return whole(trainable_state(stage.module))

    def _optimizer(self, stage: Stage, saved: Checkpoint | None) -> torch.optim.Optimizer:
        """Made after the weights have been split, since it must hold their parts."""
        if self.sharded:
            if stage.optim.name == "adamw_8bit":
                raise UserError(
                    "optim.name: adamw_8bit can't work on weights that engine.shard has split; use adamw"
                )
            self._idle = shard(stage.module, stage.vlm, self.accelerator)
            stage.gathered = lambda: gathered(stage.module)
        optimizer = make_optimizer(stage.parameter_groups(), stage.optim)
        if saved:
            optimizer.load_state_dict(sharded_like(optimizer, saved.optimizer))
        return optimizer

    def _writer(self, start: int, records: dict[str, str]) -> MetricsWriter:
        if not start and (lost := len(read_metrics(self.folder / "metrics.jsonl"))):
            console.print(
                f"{self.folder}: holds no checkpoint, so its {lost} steps are done anew",
                style="yellow",
                soft_wrap=True,
            )
        writer = MetricsWriter(self.folder, start, self.config.tensorboard, records)
        for path in writer.restored:
            console.print(
                f"{path}: wasn't as the run had written it up to step {start}; it is restored from the checkpoint",
                style="yellow",
                soft_wrap=True,
            )
        return writer

    def _watch(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        step: int,
        metrics: dict[str, float],
        writer: MetricsWriter | None,
    ) -> None:
        try:
            messages = stage.watch(metrics)
        except RunError:
            self._save(stage, optimizer, step + 1, writer)
            raise
        if self.accelerator.is_main_process:
            for message in messages:
                console.print(f"{stage.name}, step {step + 1}: {message}", style="yellow")

    def _step(self, stage: Stage, optimizer: Any, step: int) -> dict[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = stage.lr_scale * learning_rate(group["peak_lr"], step, stage.num_steps, stage.optim)
        means = Means()
        for update in stage.updates(step):
            self._update(stage, optimizer, update, means)
        means.add(stage.step_metrics())
        return {**means.means(self.accelerator), "lr": optimizer.param_groups[0]["lr"]}

    def _update(self, stage: Stage, optimizer: Any, update: Update, means: Means) -> None:
        records: list[str] = []
        broken = ""
        # FSDP takes the mean of the processes' gradients, while the denominator already counts all of them
        scale = (self.accelerator.num_processes if self.sharded else 1) / (update.denominator or 1.0)
        idle = self._idle_rounds(len(update.micro_batches))
        for micro_batch in update.micro_batches:
            with self.accelerator.autocast():
                part = stage.loss(micro_batch)
            records += part.record_ids
            if not broken and not torch.isfinite(part.loss):
                broken = f"{part.loss.item()} on records {', '.join(part.record_ids)}"
            self.accelerator.backward(part.loss * scale)
            means.add(part.sums)
        for _ in range(idle):
            with self.accelerator.autocast():
                loss = idle_loss(stage.module, self._idle)
            self.accelerator.backward(loss)
        # told of by all processes alike: one that stopped by itself would leave the others waiting
        if found := [each for each in everyones(self.accelerator, broken) if each]:
            raise NonFiniteLoss(
                f"{stage.name}: the loss is {found[0]}. A lower optim.lr, or leaving these records out, may help; the "
                "last checkpoint is whole."
            )
        if self.sharded:
            forget_unused(stage.module, stage.vlm, update.unused, self.accelerator)
        else:
            sum_gradients(stage.module.parameters(), self.accelerator)
        norms = [
            float(whole(nn.utils.clip_grad_norm_(group, stage.optim.max_grad_norm)))
            for group in stage.clip_groups()
        ]
        if broken_norms := [norm for norm in norms if not math.isfinite(norm)]:
            raise NonFiniteLoss(
                f"{stage.name}: the gradient is {broken_norms[0]} on records {', '.join(records)}"
            )
        means.add({"grad_norm": (norms[0], 1.0)})
        optimizer.step()
        optimizer.zero_grad()

    def _idle_rounds(self, own: int) -> int:
        """How many more forwards and backwards another process has to do: sharded, all must do as many."""
        return max(everyones(self.accelerator, own)) - own if self.sharded else 0

    def _save(
        self, stage: Stage, optimizer: torch.optim.Optimizer, step: int, writer: MetricsWriter | None
    ) -> None:
        main = self.accelerator.is_main_process
        records = writer.records() if writer else {}
        weights, state = whole(trainable_state(stage.module), main), whole(optimizer.state_dict(), main)
        checkpoint = Checkpoint(step, weights, state, stage.state_dict(), records, self._best.state_dict())
        if main:
            save_checkpoint(self.folder / "checkpoints", checkpoint, self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _stopping(self) -> bool:
        return any(everyones(self.accelerator, self._stop))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and the first Ctrl-C end the run after the step at work; a second Ctrl-C ends it at once."""

        def ask(number: int, frame: Any) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop, self._interrupted = True, number == signal.SIGINT

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def step_seed(seed: int, name: str, number: int) -> int:
    """A seed for the draws of a step, or of a prompt: a hash, so that neighbours share nothing. The same on every
    process."""
    digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
