"""Sampling with adapters merged: the policy that trains, to rounding, and weights that come back to the bit."""

from pathlib import Path

import pytest
import torch
from model_samples import ANSWERS, MIXED, ONE, rows_of
from safetensors.torch import load_file
from torch import Tensor

from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.adapters import load_beside, lora_layers, merged_adapters
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.generate import fed, generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.merged import MOST_LOST, merged_state
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.policy import Policy, trainable_state
from mmrlhf.models.vlm import VLM, answer_logits
from mmrlhf.types import Row


def adapted(path: str = "tiny", dtype: str = "float32", seed: int = 1) -> VLM:
    torch.manual_seed(seed)
    vlm = load_vlm(ModelConfig(path=path, dtype=dtype, lora=LoraSettings(r=3)), trainable=True)
    for name, value in vlm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    return vlm


@torch.no_grad()
def sampling_logprobs(vlm: VLM, row: Row) -> Tensor:
    """Of an answer's tokens, from the hidden states that sampling would have drawn them from."""
    logits = answer_logits(vlm, fed(vlm, row)[: len(row.answer_ids)])
    return logits.log_softmax(-1).gather(-1, row.answer_ids.unsqueeze(-1)).squeeze(-1)


def weights(vlm: VLM) -> dict[str, tuple[int, bool, Tensor]]:
    """Every parameter: which it is, whether it is trained, and its values now."""
    return {
        name: (id(value), value.requires_grad, value.detach().clone())
        for name, value in vlm.model.named_parameters()
    }


def unchanged(vlm: VLM, before: dict[str, tuple[int, bool, Tensor]]) -> None:
    now = weights(vlm)
    assert list(now) == list(before)
    for name, (identity, trained, value) in before.items():
        assert now[name][:2] == (identity, trained), name
        assert torch.equal(now[name][2], value), name
    assert not any(layer.merged or layer.disable_adapters for layer in lora_layers(vlm.model))


def test_log_probs_are_those_of_the_training_forward(family: str, checkpoint) -> None:
    vlm = adapted(checkpoint(family))
    rows = [row for row in rows_of(vlm, MIXED, ANSWERS) if len(row.answer_ids)]
    batch = collate(vlm, rows)
    trained = Policy(vlm)(batch).logprobs_BT
    with vlm.adapters_off():
        assert (Policy(vlm)(batch).logprobs_BT - trained).abs().max() > 1e-2  # the adapters count
    before = weights(vlm)
    with merged_adapters(vlm):
        layers = lora_layers(vlm.model)
        assert all(layer.disable_adapters for layer in layers)
        found = [sampling_logprobs(vlm, row) for row in rows]
    unchanged(vlm, before)
    for i, (row, ours) in enumerate(zip(rows, found, strict=True)):
        torch.testing.assert_close(ours, trained[i, : len(row.answer_ids)], rtol=1e-5, atol=1e-5)


def test_an_exception_leaves_nothing_behind() -> None:
    vlm = adapted()
    before = weights(vlm)
    with pytest.raises(RuntimeError, match="out of memory"), merged_adapters(vlm):
        raise RuntimeError("out of memory")
    unchanged(vlm, before)


def test_an_exception_half_way_leaves_nothing_behind() -> None:
    vlm = adapted()
    before = weights(vlm)
    last = lora_layers(vlm.model)[-1]

    def fail(adapter: str) -> Tensor:
        raise RuntimeError("out of memory")

    last.get_delta_weight = fail
    with pytest.raises(RuntimeError, match="out of memory"), merged_adapters(vlm):
        pass
    del last.get_delta_weight
    unchanged(vlm, before)


def test_one_more_copy_of_the_weights_with_adapters() -> None:
    vlm = adapted()
    own = {value.data_ptr() for value in vlm.model.parameters()}
    with merged_adapters(vlm):
        extra = sum(p.numel() for p in vlm.model.parameters() if p.data_ptr() not in own)
    # 6 blocks of four layers 160 x 160 and three of 160 x 256
    assert extra == 6 * (4 * 160 * 160 + 3 * 160 * 256)


def test_with_adapters_off_it_is_the_base() -> None:
    vlm, base = adapted(), load_vlm(ModelConfig())
    row = rows_of(vlm, [ONE], ["It is green."])[0]
    expected = sampling_logprobs(base, row)
    with vlm.adapters_off():
        with merged_adapters(vlm):
            assert torch.equal(sampling_logprobs(vlm, row), expected)
        assert torch.equal(sampling_logprobs(vlm, row), expected)


@pytest.mark.parametrize("reason", ["bfloat16", "autocast"])
def test_nothing_is_merged_where_it_would_round_the_adapter_away(reason: str) -> None:
    vlm = adapted(dtype="bfloat16" if reason == "bfloat16" else "float32")
    row = rows_of(vlm, [ONE], ["It is green."])[0]
    with torch.autocast("cpu", enabled=reason == "autocast", dtype=torch.bfloat16):
        expected = sampling_logprobs(vlm, row)
        before = weights(vlm)
        with merged_adapters(vlm):
            unchanged(vlm, before)
            assert torch.equal(sampling_logprobs(vlm, row), expected)
    unchanged(vlm, before)


def test_of_several_adapters_its_own_is_merged(tmp_path: Path) -> None:
    vlm, other = adapted(seed=1), adapted(seed=2)
    row = rows_of(vlm, [ONE], ["It is green."])[0]
    expected = [sampling_logprobs(model, row) for model in (vlm, other)]
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    save_vlm(other, tmp_path / "other")
    load_beside(vlm, tmp_path / "other" / "adapter", "reward")
    before = weights(vlm)
    for name, logprobs in zip(("default", "reward"), expected, strict=True):
        vlm.adapter = name
        with merged_adapters(vlm):
            torch.testing.assert_close(sampling_logprobs(vlm, row), logprobs, rtol=1e-5, atol=1e-5)
        unchanged(vlm, before)


def test_generate_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = adapted()
    trained = trainable_state(vlm.model)
    seen: list[bool] = []
    vlm.core.base_model.register_forward_pre_hook(
        lambda *_: seen.append(all(layer.disable_adapters for layer in lora_layers(vlm.model)))
    )
    generate(vlm, [encode_prompt(vlm, ONE)], 4, temperature=0)
    assert seen
    assert all(seen)
    assert trainable_state(vlm.model).keys() == trained.keys()


def gentle(factor: float, dtype: str = "bfloat16") -> VLM:
    """A model whose adapter changes each weight by a part of it."""
    vlm = adapted(dtype=dtype)
    with torch.no_grad():
        for layer in lora_layers(vlm.model):
            size = (
                layer.get_delta_weight("default").float().norm()
                / layer.get_base_layer().weight.float().norm()
            )
            layer.lora_B["default"].weight *= factor / size
    return vlm


def test_what_rounding_takes_of_an_adapter() -> None:
    """A bfloat16 weight is known to about 1 in 600, so that of an adapter of a hundredth of the weights a sixth is
    lost, and of one of a thousandth most."""
    clear, faint = merged_state(gentle(0.01)), merged_state(gentle(0.001))
    assert 0.1 < clear.lost < MOST_LOST
    assert faint.lost > 0.7
    assert (clear.in_float32, faint.in_float32) == (False, True)
    whole = merged_state(gentle(0.001, "float32"))
    assert whole.lost < 1e-3
    assert not whole.in_float32


def test_an_adapter_that_rounding_would_take_is_saved_in_float32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vlm = gentle(0.001)
    save_vlm(vlm, tmp_path / "faint")
    assert "rounding would take" in " ".join(capsys.readouterr().err.split())
    state = load_file(tmp_path / "faint" / "model.safetensors")
    layers = {name: layer for name, layer in vlm.core.named_modules() if layer in lora_layers(vlm.model)}
    assert sum(value.dtype == torch.float32 for value in state.values()) == len(layers) > 0
    # who reads it in float32 has what was trained, and it is read in bfloat16 as any other
    read = load_vlm(ModelConfig(path=str(tmp_path / "faint"), dtype="float32"))
    for name, layer in layers.items():
        exact = layer.get_base_layer().weight.float() + layer.get_delta_weight("default").float()
        assert torch.equal(read.core.get_parameter(f"{name}.weight"), exact)
    assert load_vlm(ModelConfig(path=str(tmp_path / "faint"), dtype="bfloat16")).core.dtype == torch.bfloat16
    save_vlm(gentle(0.01), tmp_path / "clear")
    assert "rounding" not in capsys.readouterr().err
    assert {value.dtype for value in load_file(tmp_path / "clear" / "model.safetensors").values()} == {
        torch.bfloat16
    }
