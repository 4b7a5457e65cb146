"""A linear layer and its adapter in one product: peft's own numbers, and peft's own way where it isn't the same."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from mmrlhf.models import lora_linear
from mmrlhf.models.lora_linear import fuse_adapters


class Net(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 7, bias=bias), nn.Linear(7, 3, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


def made(bias: bool = True, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["one", "two"], **settings)  # type: ignore[arg-type]
    model = get_peft_model(Net(bias), config)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(value)
    return model


def results(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and its gradients by the input and by what is trained."""
    x = x.clone().requires_grad_(True)
    out = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    return [out, *torch.autograd.grad(out.square().sum(), [x, *trained])]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often the one product was computed."""
    calls: list[int] = []
    own = lora_linear._Adapted.apply

    def apply(*arguments: object) -> Tensor:
        calls.append(1)
        return own(*arguments)

    monkeypatch.setattr(lora_linear._Adapted, "apply", apply)
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (5,)])
def test_outputs_and_gradients_are_pefts(bias: bool, shape: tuple[int, ...], applied: list[int]) -> None:
    model, x = made(bias), torch.randn(*shape)
    expected = results(model, x)
    assert applied == []
    fuse_adapters(model)
    found = results(model, x)
    assert applied == [1, 1]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_by_hand() -> None:
    """y = 2 * 3 + 0.5 + s * (2 * 5) * 7 with s = alpha / r = 2; dy/dx = 3 + s * 5 * 7, dy/dA = s * 7 * 2 and
    dy/dB = s * 5 * 2."""
    config = LoraConfig(r=1, lora_alpha=2, target_modules=["0"])
    model = get_peft_model(nn.Sequential(nn.Linear(1, 1)), config)
    values = {"weight": 3.0, "bias": 0.5, "lora_A": 5.0, "lora_B": 7.0}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(next(v for key, v in reversed(values.items()) if key in name))
    fuse_adapters(model)
    x = torch.tensor([[2.0]], requires_grad=True)
    out = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert out.item() == 146.5
    assert [g.item() for g in torch.autograd.grad(out.sum(), [x, *trained])] == [73.0, 28.0, 20.0]


def test_gradients_by_finite_differences() -> None:
    model = made().double()
    fuse_adapters(model)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x), x)


def test_what_is_not_the_same_is_pefts(applied: list[int]) -> None:
    x = torch.randn(4, 5)
    for model in (made(lora_dropout=0.5), made(use_dora=True), made(lora_bias=True)):
        model.eval()
        expected = model(x)
        fuse_adapters(model)
        assert torch.equal(model(x), expected)
    model = made()
    with model.disable_adapter():
        expected = model(x)
    fuse_adapters(model)
    with model.disable_adapter():
        assert torch.equal(model(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    model.merge_adapter()
    model(x)
    assert applied == []
    model.unmerge_adapter()
    model(x)
    assert applied == [1, 1]


def test_an_adapter_beside_it_is_read_where_it_is_at_work(applied: list[int]) -> None:
    model = made()
    fuse_adapters(model)
    x = torch.randn(4, 5)
    first = model(x)
    model.add_adapter("other", LoraConfig(r=3, target_modules=["one"]))
    nn.init.normal_(model.base_model.model.one.lora_B["other"].weight)
    model.set_adapter("other")
    applied.clear()
    assert (model(x) - first).abs().max() > 0.1
    assert applied == [1]  # the second layer has no such adapter
    model.set_adapter("default")
    assert torch.equal(model(x), first)


def test_a_base_that_is_trained_too_gets_its_gradient(applied: list[int]) -> None:
    model = made()
    fuse_adapters(model)
    model.base_model.model.one.base_layer.weight.requires_grad_(True)
    model(torch.randn(4, 5)).sum().backward()
    assert model.base_model.model.one.base_layer.weight.grad.abs().max() > 0
    assert applied == [1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5)], ids=str)
def test_the_output_may_be_changed_in_place(applied: list[int], shape: tuple[int, ...], bias: bool) -> None:
    """As Gemma 3n does with its projections; the gradients are those of the same product made anew."""
    model = made(bias)
    fuse_adapters(model)
    x = torch.randn(*shape)
    weights = [p for p in model.parameters() if p.requires_grad]
    layer = model.base_model.model.one
    out = layer(x)
    out *= 3
    gradients = [torch.autograd.grad(y.square().sum(), weights[:2]) for y in (out, layer(x) * 3)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert applied == [1, 1]
