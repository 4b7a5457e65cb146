"""A checkpoint is exact, whole or not there, and holds no pickle."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.training import checkpoint as module
from mmrlhf.training.checkpoint import Checkpoint, latest_checkpoint, restore_weights, save_checkpoint


def trained() -> tuple[nn.Linear, torch.optim.AdamW]:
    """A linear model and its optimizer after three steps."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(
        [
            {"params": [model.weight], "peak_lr": 0.1, "lr": 0.1},
            {"params": [model.bias], "peak_lr": 1e-3, "lr": 1e-3},
        ],
        betas=(0.9, 0.95),
    )
    for _ in range(3):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def make(step: int, fill: float = 0.0) -> Checkpoint:
    return Checkpoint(
        step, {"w": torch.full((2, 2), fill)}, {"state": {}, "param_groups": []}, {"kl_coef": 0.1 + 0.2}
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    model, optimizer = trained()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    weights["half"] = torch.tensor([1.0, 1 / 3], dtype=torch.bfloat16)
    state = {"kl_coef": 0.1 + 0.2, "refused": 3, "nested": [1, {"a": None}], "flag": True}
    save_checkpoint(tmp_path, Checkpoint(7, weights, optimizer.state_dict(), state), keep=2)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 7
    assert same(weights, found.weights)
    assert found.stage == {
        "kl_coef": 0.30000000000000004,
        "refused": 3,
        "nested": [1, {"a": None}],
        "flag": True,
    }
    expected = optimizer.state_dict()
    for group in expected["param_groups"]:
        group["betas"] = list(group["betas"])  # JSON has no tuples
    assert same(expected, found.optimizer)


def test_an_optimizer_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    model, optimizer = trained()
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    save_checkpoint(tmp_path, Checkpoint(3, weights, optimizer.state_dict(), {}), keep=1)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    again, fresh = trained()
    for value in again.parameters():
        value.data.zero_()
    restore_weights(again, found.weights)
    fresh.load_state_dict(found.optimizer)
    batch = torch.randn(4, 3)
    for net, opt in ((model, optimizer), (again, fresh)):
        net(batch).square().sum().backward()
        opt.step()
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    model, optimizer = trained()
    weights = {name: value.detach() for name, value in model.named_parameters()}
    folder = save_checkpoint(tmp_path, Checkpoint(1, weights, optimizer.state_dict(), {}), keep=1)
    assert sorted(p.name for p in folder.iterdir()) == [
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    json.loads((folder / "state.json").read_text())
    for name in ("optimizer.safetensors", "weights.safetensors"):
        data = (folder / name).read_bytes()
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 50, 100, 1500):
        save_checkpoint(tmp_path, make(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000100", "step-001500"]
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1500


def test_a_million_steps_come_after_the_rest(tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(tmp_path, make(step), keep=1)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1_000_000


def test_a_half_written_one_is_not_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path, make(1), keep=2)
    partial = tmp_path / ".step-000002.partial"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    found = latest_checkpoint(tmp_path)
    assert capsys.readouterr().err == ""
    assert found is not None
    assert found.step == 1
    save_checkpoint(tmp_path, make(2, fill=4.0), keep=2)  # in its way no longer
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.weights["w"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert not partial.exists()


def test_nothing_there(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_bit(folder / "weights.safetensors"),
        lambda folder: flip_a_bit(folder / "optimizer.safetensors"),
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: (folder / "state.json").unlink(),
        lambda folder: (folder / "state.json").write_text('{"step": 2'),
        lambda folder: (folder / "state.json").write_text("{}"),
        lambda folder: (folder / "state.json").write_text("[]"),
        lambda folder: (folder / "state.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "weights.safetensors").write_bytes(b""),
    ],
)
def test_a_damaged_one_is_passed_over(
    tmp_path: Path, damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(tmp_path, make(1, fill=1.0), keep=3)
    newest = save_checkpoint(tmp_path, Checkpoint(2, {"w": torch.ones(2)}, {"t": torch.ones(3)}, {}), keep=3)
    damage(newest)
    found = latest_checkpoint(tmp_path)
    said = capsys.readouterr().err
    assert "step-000002 is damaged" in said
    assert said.endswith("; the one before it is used\n")
    assert found is not None
    assert found.step == 1
    assert found.weights["w"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    save_checkpoint(tmp_path, make(1, fill=1.0), keep=1)

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(code, "No room for it", str(path))

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(UserError, match=r"step-000002: can't write the checkpoint \(No room for it\)"):
        save_checkpoint(tmp_path, make(2), keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001"]
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.weights["w"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_full_disk_as_safetensors_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer is not Python's: a failed write is an error of its own kind."""
    from safetensors import SafetensorError

    save_checkpoint(tmp_path, make(1), keep=1)

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(UserError, match=r"step-000002: can't write the checkpoint .*No space left"):
        save_checkpoint(tmp_path, make(2), keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001"]


def test_weights_of_another_model_are_refused() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    good = torch.ones(2, 3)
    restore_weights(model, {"weight": good})
    assert model.weight.tolist() == good.tolist()
    for weights in (
        {"weight": good, "bias": torch.ones(2)},
        {"weights": good},
        {},
        {"weight": torch.ones(2, 2)},
    ):
        with pytest.raises(UserError, match="the checkpoint was made with another config or model"):
            restore_weights(model, weights)
    assert model.weight.tolist() == good.tolist()


def test_a_tensor_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    table = torch.arange(3.0)
    state = {"state": {0: {"table": table}, 1: {"table": table, "own": torch.arange(3.0)}}}
    folder = save_checkpoint(tmp_path, Checkpoint(1, {"w": torch.zeros(1)}, state, {}), keep=1)
    assert len(load_file(folder / "optimizer.safetensors")) == 2
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert same(found.optimizer, state)
