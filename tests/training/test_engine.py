"""The training loop on a linear model, whose gradients are known by hand."""

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import EngineConfig, OptimConfig
from mmrlhf.training.checkpoint import latest_checkpoint
from mmrlhf.training.engine import (
    Engine,
    LossSum,
    NonFiniteLoss,
    Stage,
    Stopped,
    Update,
    learning_rate,
    step_seed,
    weight_groups,
)
from mmrlhf.training.metrics import Means, MetricsWriter, read_metrics

STEPS = 6


class Toy(Stage):
    """Learns y = w x from numbers; each step draws its batch from torch's generator, as sampling does."""

    name = "toy"

    def __init__(self, sizes: tuple[int, ...] = (4,), **optim: Any) -> None:
        torch.manual_seed(0)
        self.module: Any = nn.Linear(2, 1)
        self.optim = OptimConfig(**{"lr": 0.1, **optim})
        self.num_steps = STEPS
        self.sizes, self.drawn = sizes, 0
        self.at_step: dict[int, Any] = {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return weight_groups(self.module, self.optim)

    def updates(self, step: int) -> Iterator[Update]:
        if step in self.at_step:
            self.at_step[step]()
        inputs = torch.randn(sum(self.sizes), 2)
        self.drawn += len(inputs)
        yield Update(list(inputs.split(list(self.sizes))), float(len(inputs)))

    def loss(self, micro_batch: Tensor) -> LossSum:
        error = self.module(micro_batch).squeeze(-1) - micro_batch.sum(1)
        loss = error.square().sum()
        return LossSum(
            loss, {"loss": (loss.detach(), len(micro_batch))}, tuple(f"r{i}" for i in range(len(micro_batch)))
        )

    def step_metrics(self) -> dict[str, Any]:
        return {"drawn": (self.drawn, 1)}

    def note(self, metrics: dict[str, float]) -> str:
        return f"{metrics['loss']:.2f}"

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = state["drawn"]


def train(stage: Toy, folder: Path, every: int = 2, **settings: Any) -> None:
    config = EngineConfig(checkpoint_every=every, tensorboard=False, mixed_precision="no", **settings)
    Engine(folder, config, 0, Accelerator(cpu=True, mixed_precision="no")).train(stage)


def weights(stage: Toy) -> list[float]:
    return [*stage.module.weight.flatten().tolist(), *stage.module.bias.tolist()]


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1), (1, 2, 1)])
def test_micro_batches_of_any_size_make_the_same_update(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    whole, parts = Toy((4,)), Toy(sizes)
    train(whole, tmp_path / "whole")
    train(parts, tmp_path / "parts")
    assert weights(parts) == pytest.approx(weights(whole), abs=1e-6)
    for a, b in zip(
        read_metrics(tmp_path / "whole/metrics.jsonl"),
        read_metrics(tmp_path / "parts/metrics.jsonl"),
        strict=True,
    ):
        assert b == pytest.approx(a, abs=1e-5)


class Fixed(Toy):
    """One step on w = (1, 2), without a bias, at x = (1, 0), (0, 1), (1, 1) with targets 0: errors 1, 2, 3."""

    def __init__(self, denominator: float, **optim: Any) -> None:
        super().__init__(**optim)
        self.module = nn.Linear(2, 1, bias=False)
        self.module.weight.data = torch.tensor([[1.0, 2.0]])
        self.num_steps, self.denominator = 1, denominator

    def updates(self, step: int) -> Iterator[Update]:
        inputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        yield Update([inputs[:2], inputs[2:]], self.denominator)

    def loss(self, micro_batch: Tensor) -> LossSum:
        loss = self.module(micro_batch).square().sum()
        return LossSum(loss, {"loss": (loss.detach(), len(micro_batch))}, ("a",))


@pytest.mark.parametrize(("denominator", "scale"), [(3.0, 1 / 3), (6.0, 1 / 6), (0.0, 1.0)])
def test_a_gradient_is_the_sum_over_the_denominator(tmp_path: Path, denominator: float, scale: float) -> None:
    """The loss is w1^2 + w2^2 + (w1 + w2)^2, its gradient at (1, 2) is (8, 10), and the norm of that is 12.806248."""
    train(Fixed(denominator, max_grad_norm=1e9), tmp_path)
    row = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert row["grad_norm"] == pytest.approx(12.806248 * scale, rel=1e-6)
    assert row["loss"] == pytest.approx((1 + 4 + 9) / 3)


def test_gradients_are_clipped_to_their_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *args, **kwargs: (
            seen.append(
                [g for group in self.param_groups for p in group["params"] for g in p.grad.flatten().tolist()]
            ),
            step(self, *args, **kwargs),
        )[1],
    )
    train(Fixed(1.0, max_grad_norm=0.5), tmp_path)
    # (8, 10) scaled to a norm of 0.5
    assert seen == [pytest.approx([0.3123475, 0.3904344], rel=1e-5)]
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["grad_norm"] == pytest.approx(
        12.806248
    )  # as it was before


def test_the_first_step_of_adamw_is_the_learning_rate(tmp_path: Path) -> None:
    """Adam's first step is lr times the sign of the gradient; with weight decay 0.1, lr 0.1 also w (1 - 0.01)."""
    stage = Fixed(3.0, lr=0.1, warmup=0.0, weight_decay=0.1)
    train(stage, tmp_path)
    assert stage.module.weight.tolist()[0] == pytest.approx([1.0 * 0.99 - 0.1, 2.0 * 0.99 - 0.1], abs=1e-5)


def test_the_learning_rate_by_hand() -> None:
    linear = OptimConfig(schedule="linear", final=0.1, warmup=0.0)
    assert [learning_rate(1.0, t, 5, linear) for t in range(5)] == pytest.approx(
        [1.0, 0.775, 0.55, 0.325, 0.1]
    )
    cosine = OptimConfig(schedule="cosine", final=0.0, warmup=0.0)
    assert [learning_rate(2.0, t, 5, cosine) for t in range(5)] == pytest.approx(
        [2.0, 1.7071068, 1.0, 0.2928932, 0.0]
    )
    constant = OptimConfig(schedule="constant", warmup=0.4)
    assert [learning_rate(1.0, t, 10, constant) for t in range(6)] == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    )
    # 2 steps of warm-up, then 0.1 + 0.9 (1 - (t - 2) / 7)
    warm = OptimConfig(schedule="linear", final=0.1, warmup=0.2)
    expected = [0.5, 1.0, 1.0, 0.8714286, 0.7428571, 0.6142857, 0.4857143, 0.3571429, 0.2285714, 0.1]
    assert [learning_rate(1.0, t, 10, warm) for t in range(10)] == pytest.approx(expected)
    assert learning_rate(3.0, 0, 1, linear) == 3.0


def test_groups_decay_matrices_and_know_their_own_rates() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.value_head, self.frozen = nn.Linear(3, 2), nn.Linear(2, 1), nn.Linear(2, 2)
            self.frozen.requires_grad_(False)

    groups = weight_groups(Net(), OptimConfig(lr=1e-3, weight_decay=0.1), {"value_head": 0.5})
    table = sorted((g["peak_lr"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in groups)
    assert table == [(1e-3, 0.0, [(2,)]), (1e-3, 0.1, [(2, 3)]), (0.5, 0.0, [(1,)]), (0.5, 0.1, [(1, 2)])]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, bad: float) -> None:
    stage = Toy((1, 3))
    before: list[list[float]] = []

    def poison() -> None:
        before.append(weights(stage))
        plain = stage.loss

        def loss(micro_batch: Tensor) -> LossSum:
            part = plain(micro_batch)
            ids = tuple(f"bad-{i}" for i in range(len(micro_batch)))
            return LossSum(part.loss * bad, part.sums, ids) if len(micro_batch) == 3 else part

        stage.loss = loss  # type: ignore[method-assign]

    stage.at_step[3] = poison
    with pytest.raises(NonFiniteLoss, match=r"toy: the loss is (nan|inf) on records bad-0, bad-1, bad-2\."):
        train(stage, tmp_path)
    assert [weights(stage)] == before
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """sqrt(0) is 0 and its gradient is not a number."""
    stage = Toy((2,))
    before = weights(stage)

    def loss(micro_batch: Tensor) -> LossSum:
        value = (stage.module(micro_batch).sum() * 0.0).sqrt()
        return LossSum(value, {}, ("r7", "r8"))

    stage.loss = loss  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLoss, match=r"toy: the gradient is nan on records r7, r8"):
        train(stage, tmp_path)
    assert weights(stage) == before


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_run_that_dies_goes_on_with_the_same_numbers(tmp_path: Path, at: int) -> None:
    whole = Toy()
    train(whole, tmp_path / "whole")

    class Dies(Exception):
        pass

    def die() -> None:
        raise Dies

    first = Toy()
    first.at_step[at] = die
    with pytest.raises(Dies):
        train(first, tmp_path / "parts")
    second = Toy()
    second.module.weight.data.fill_(
        9.0
    )  # what it starts from doesn't count, unless there is no checkpoint yet
    if at < 2:
        second = Toy()
    train(second, tmp_path / "parts")
    assert (tmp_path / "parts/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    assert weights(second) == weights(whole)
    assert len(read_metrics(tmp_path / "parts/metrics.jsonl")) == STEPS


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:2],  # cut
        lambda lines: [],
        lambda lines: [lines[0].replace("1", "2", 1), *lines[1:]],  # another digit
        lambda lines: [*lines[:1], *lines[2:], *lines[1:2]],  # in another order
        lambda lines: [lines[0] + lines[0], *lines[1:]],
        lambda lines: ["\0" * 80 + "\n", *lines[1:]],  # what a power cut leaves
    ],
)
def test_metrics_that_were_changed_are_restored(
    tmp_path: Path, damage: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    train(Toy(), tmp_path / "whole")
    whole = (tmp_path / "whole/metrics.jsonl").read_text()
    path = tmp_path / "parts/metrics.jsonl"
    first = Toy()
    first.at_step[5] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        train(first, tmp_path / "parts")
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
    capfd.readouterr()
    train(Toy(), tmp_path / "parts")
    assert path.read_text() == whole
    said = capfd.readouterr().err.replace("\n", "")
    assert "metrics.jsonl: wasn't as the run had written it up to step 6; it is restored" in said


def test_metrics_that_were_deleted_are_restored_and_whole_ones_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(Toy(), tmp_path)
    files = [tmp_path / "metrics.jsonl", tmp_path / "timings.jsonl"]
    whole = [path.read_text() for path in files]
    capfd.readouterr()
    train(Toy(), tmp_path)
    assert "restored" not in capfd.readouterr().err
    for path in files:
        path.unlink()
    train(Toy(), tmp_path)
    assert [path.read_text() for path in files] == whole
    assert capfd.readouterr().err.count("restored") == 2
    shutil.rmtree(tmp_path / "checkpoints")
    train(Toy(), tmp_path)
    assert f"{tmp_path}: holds no checkpoint, so its {STEPS} steps are done anew" in capfd.readouterr().err
    assert files[0].read_text() == whole[0]


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    train(Toy(), tmp_path)
    text = (tmp_path / "metrics.jsonl").read_text()
    again = Toy()
    again.at_step = {step: lambda: pytest.fail("nothing is left to do") for step in range(STEPS)}
    train(again, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    stage = Toy()
    stage.at_step[2] = lambda: os.kill(os.getpid(), number)
    with pytest.raises(Stopped, match="toy is saved at step 3 of 6"):
        train(stage, tmp_path / "parts", every=100)
    assert [p.name for p in (tmp_path / "parts/checkpoints").iterdir()] == ["step-000003"]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    train(Toy(), tmp_path / "parts", every=100)
    train(Toy(), tmp_path / "whole", every=100)
    assert (tmp_path / "parts/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    stage = Toy()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    stage.at_step[2] = twice
    with pytest.raises(KeyboardInterrupt):
        train(stage, tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    stage = Toy()
    stage.num_steps = 2
    train(stage, tmp_path)
    other = Toy()
    other.module = nn.Linear(5, 1)
    with pytest.raises(UserError, match="made with another config or model"):
        train(other, tmp_path)


def test_checkpoints_are_kept_and_pruned(tmp_path: Path) -> None:
    train(Toy(), tmp_path, every=1, keep_checkpoints=3)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000005",
        "step-000006",
    ]


def test_means_are_weighted() -> None:
    means = Means()
    means.add({"a": (torch.tensor(6.0), torch.tensor(2)), "nothing": (0.0, 0)})
    means.add({"a": (1.0, 2), "b": (3, 1)})
    assert means.means(Accelerator(cpu=True)) == {"a": 1.75, "b": 3.0}  # (6 + 1) / (2 + 2)


def test_a_half_written_last_line_is_dropped_on_resume(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1 / 3} for step in (1, 2, 3)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    assert read_metrics(path) == rows
    writer = MetricsWriter(tmp_path, 2, tensorboard=False)
    writer.write(3, {"loss": 0.5}, 1.0)
    writer.close()
    third = "0.3333333333333333"
    assert path.read_text().splitlines() == [
        f'{{"step": 1, "loss": {third}}}',
        f'{{"step": 2, "loss": {third}}}',
        '{"step": 3, "loss": 0.5}',
    ]


def test_seeds_of_steps_share_nothing() -> None:
    seeds = {step_seed(s, name, t) for s in range(3) for name in ("sft", "ppo a") for t in range(50)}
    assert len(seeds) == 3 * 2 * 50
    assert max(seeds) < 2**63
    # sha256("0/sft/0") begins so
    assert step_seed(0, "sft", 0) == 0x30C3911E2A63F6BB >> 1


class Apart(Toy):
    """One step on a and b, whose gradients are 3 and 4; each is clipped by itself, or both together."""

    def __init__(self, apart: bool) -> None:
        super().__init__(schedule="constant", warmup=0.0, betas=(0.9, 0.95))
        self.module = nn.ParameterDict({name: nn.Parameter(torch.zeros(1)) for name in ("a", "b")})
        self.num_steps, self.apart = 1, apart

    def clip_groups(self) -> list[list[nn.Parameter]]:
        return [[p] for p in self.module.parameters()] if self.apart else super().clip_groups()

    def updates(self, step: int) -> Iterator[Update]:
        yield Update([torch.ones(1)], 1.0)

    def loss(self, micro_batch: Tensor) -> LossSum:
        loss = (3 * self.module["a"] + 4 * self.module["b"]).sum()
        return LossSum(loss, {"loss": (loss.detach(), 1)}, ("r0",))


@pytest.mark.parametrize(("apart", "norm", "clipped"), [(True, 3.0, [1.0, 1.0]), (False, 5.0, [0.6, 0.8])])
def test_groups_of_weights_are_clipped_apart(
    tmp_path: Path, apart: bool, norm: float, clipped: list[float]
) -> None:
    """AdamW's first moment is a tenth of the gradient after one step."""
    train(Apart(apart), tmp_path)
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["grad_norm"] == pytest.approx(norm)
    saved = latest_checkpoint(tmp_path / "checkpoints")
    assert saved is not None
    moments = [10 * saved.optimizer["state"][number]["exp_avg"].item() for number in (0, 1)]
    assert moments == pytest.approx(clipped, abs=1e-5)
