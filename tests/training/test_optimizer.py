"""Optimizers by name; the 8-bit one is near AdamW, and goes on from a checkpoint to the bit."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from data_tools.errors import UserError
from mmrlhf.config import OptimConfig
from mmrlhf.training.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from mmrlhf.training.optimizer import make_optimizer


def model() -> nn.Sequential:
    """Weights of 6,400 numbers, of which the moments are kept in 8 bits, and of 200, of which they aren't."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, 2))


def groups(made: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(made.parameters()), "peak_lr": 0.01, "lr": 0.01, "weight_decay": 0.1}]


def train(made: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] / (1 + step)
        made(torch.randn(8, 64, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_adamw_is_torchs_own() -> None:
    optimizer = make_optimizer(groups(model()), OptimConfig(betas=(0.8, 0.9)))
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r"adamw_8bit needs bitsandbytes .*pip install 'mmrlhf\[8bit\]'"):
        make_optimizer(groups(model()), OptimConfig(name="adamw_8bit"))


def test_8_bit_moments_take_a_quarter_and_train_alike() -> None:
    pytest.importorskip("bitsandbytes")
    found = []
    for name in ("adamw", "adamw_8bit"):
        made = model()
        before = made[0].weight.detach().clone()
        optimizer = make_optimizer(groups(made), OptimConfig.model_validate({"name": name}))
        train(made, optimizer, range(4))
        found.append(made[0].weight.detach() - before)
        large, small = (optimizer.state[layer.weight] for layer in (made[0], made[2]))
        moments = ("state1", "state2") if name == "adamw_8bit" else ("exp_avg", "exp_avg_sq")
        sizes = [sum(state[m].nbytes for m in moments) for state in (large, small)]
        assert sizes == [2 * 6400 * (1 if name == "adamw_8bit" else 4), 2 * 200 * 4]
    assert (found[1] - found[0]).norm() < 0.05 * found[0].norm()
    assert not torch.equal(found[1], found[0])


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_it_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path: Path, name: str) -> None:
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    config = OptimConfig.model_validate({"name": name})

    def begin() -> tuple[nn.Module, Any, Any]:
        made = model()
        plain = make_optimizer(groups(made), config)
        return made, plain, Accelerator(cpu=True).prepare_optimizer(plain)

    whole, _, optimizer = begin()
    train(whole, optimizer, range(6))
    stopped, plain, optimizer = begin()
    train(stopped, optimizer, range(3))
    weights = {key: value.detach() for key, value in stopped.named_parameters()}
    save_checkpoint(tmp_path, Checkpoint(3, weights, plain.state_dict(), {}), keep=1)
    found = latest_checkpoint(tmp_path)
    assert found is not None

    again = model()
    again.load_state_dict(found.weights)
    plain = make_optimizer(groups(again), config)
    plain.load_state_dict(found.optimizer)
    train(again, Accelerator(cpu=True).prepare_optimizer(plain), range(3, 6))
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
