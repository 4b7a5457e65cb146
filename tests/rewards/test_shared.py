"""The reward model as an adapter in the policy's model: the same rewards, one base, and a policy that is none the
wiser."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_model import NORMS, OBJECTIVES, PROMPTS, make, rows_of
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.policy import Policy, trainable_state
from mmrlhf.models.vision_cache import VisionCache, keep_features
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.card import GateCard
from mmrlhf.rewards.model import CARD, RewardCard, RewardModel, load_reward_model
from mmrlhf.rewards.shared import load_within, why_apart

# the policy's adapter and the reward model's are on layers that overlap in part, and of other ranks
JUDGE, POLICY = (
    LoraSettings(r=3, targets=["q_proj", "up_proj"]),
    LoraSettings(r=2, targets=["q_proj", "v_proj"]),
)


def disturb(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "lora_B" in name and value.requires_grad:
            value.data.normal_(std=0.1, generator=generator)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that was trained with LoRA on the bundled model."""
    trained = make(JUDGE)
    disturb(trained, 1)
    folder = tmp_path_factory.mktemp("shared") / "reward"
    trained.save(folder)
    return folder


def policy() -> VLM:
    torch.manual_seed(0)
    vlm = load_vlm(ModelConfig(lora=POLICY), trainable=True)
    disturb(vlm.model, 2)
    return vlm


def logprobs(vlm: VLM) -> Tensor:
    judge = RewardModel(vlm, RewardCard(list(OBJECTIVES), NORMS))
    return Policy(vlm)(collate(vlm, rows_of(judge))).logprobs_BT


def storage(modules: Iterable[nn.Module]) -> int:
    """The bytes of all parameters and buffers, each storage counted once."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def test_rewards_are_those_of_a_reward_model_of_its_own(saved: Path) -> None:
    vlm, apart = policy(), load_reward_model(saved)
    judge = load_within(saved, vlm)
    rows = rows_of(apart)
    expected = apart.score(rows, 4)
    torch.testing.assert_close(judge.score(rows, 4), expected, rtol=1e-4, atol=1e-4)
    # neither the base nor the policy's adapter gives such rewards
    for adapter in ("none", "default"):
        other = RewardModel(dataclasses.replace(judge.vlm, adapter=adapter), apart.card)
        other.heads = judge.heads
        assert (other.score(rows, 4) - expected).abs().max() > 0.1


def test_an_ensemble_and_its_gate_are_those_of_a_reward_model_of_its_own(tmp_path: Path) -> None:
    trained = make(JUDGE, members=2, hidden=4, gate=GateCard("overall"))
    disturb(trained, 1)
    assert trained.gate is not None
    nn.init.normal_(trained.gate.weigh.weight)
    trained.save(tmp_path / "reward")
    apart = load_reward_model(tmp_path / "reward")
    rows = rows_of(apart)
    ours, theirs = load_within(tmp_path / "reward", policy()).judge(rows, 4), apart.judge(rows, 4)
    for name in ("mean_BK", "std_BK", "gate_BK"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-4)


def test_the_policy_is_none_the_wiser(saved: Path) -> None:
    vlm = policy()
    before, trained = logprobs(vlm), trainable_state(vlm.model)
    with vlm.adapters_off():
        reference = logprobs(vlm)
    judge = load_within(saved, vlm)
    rows = rows_of(judge)

    def check() -> None:
        assert trainable_state(vlm.model).keys() == trained.keys()
        assert torch.equal(logprobs(vlm), before)
        with vlm.adapters_off():
            assert torch.equal(logprobs(vlm), reference)
        assert trainable_state(vlm.model).keys() == trained.keys()

    check()
    judge.score(rows, 4)
    check()
    with pytest.raises(IndexError):
        judge(dataclasses.replace(collate(vlm, rows), row_B=torch.tensor([99])))
    check()
    # a forward of the reward model between the policy's forward and its backward changes no gradient
    found = []
    for between in (lambda: None, lambda: judge.score(rows, 4)):
        loss = logprobs(vlm).sum()
        between()
        vlm.model.zero_grad()
        loss.backward()
        found.append({name: p.grad for name, p in vlm.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() == trained.keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_there_is_one_base_in_memory(saved: Path) -> None:
    vlm = policy()
    alone = storage([vlm.model])
    apart = load_reward_model(saved)
    assert storage([vlm.model, apart]) - alone > 7_000_000  # a second model of 2 M parameters
    judge = load_within(saved, vlm)
    # 6 layers, 160 wide and 256 inside: q_proj 160 -> 160 and up_proj 160 -> 256, of rank 3; 2 heads with bias,
    # and what makes a rating of a reward
    adapter = 6 * 3 * ((160 + 160) + (160 + 256))
    assert storage([vlm.model, judge]) - alone == 4 * (adapter + 2 * 160 + 2 + 2 * 2)


def test_what_the_policy_saves_is_as_without_it(saved: Path, tmp_path: Path) -> None:
    vlm = policy()
    save_vlm(vlm, tmp_path / "alone")
    load_within(saved, vlm)
    save_vlm(vlm, tmp_path / "beside")
    names = sorted(str(p.relative_to(tmp_path / "alone")) for p in (tmp_path / "alone").rglob("*"))
    assert names == sorted(str(p.relative_to(tmp_path / "beside")) for p in (tmp_path / "beside").rglob("*"))
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = (load_file(tmp_path / folder / name) for folder in ("beside", "alone"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_what_the_policy_saves_loads_in_plain_peft(saved: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    vlm = policy()
    load_within(saved, vlm)
    save_vlm(vlm, tmp_path / "model")
    base = AutoModelForImageTextToText.from_pretrained(vlm.core.config._name_or_path)
    plain = PeftModel.from_pretrained(base, tmp_path / "model" / "adapter").eval()
    again = dataclasses.replace(vlm, model=plain)
    torch.testing.assert_close(logprobs(again), logprobs(vlm), rtol=1e-5, atol=1e-5)


def test_prompts_and_pictures_serve_both(saved: Path) -> None:
    vlm = policy()
    cache = VisionCache(1 << 20, 1 << 20)
    assert keep_features(vlm, cache) == ""
    judge = load_within(saved, vlm)
    assert judge.reads_like(vlm)
    prompt = encode_prompt(vlm, PROMPTS[1])
    ours, theirs = prompt, encode_prompt(judge.vlm, PROMPTS[1])
    assert torch.equal(ours.input_ids, theirs.input_ids)
    logprobs(vlm)
    judge.score(rows_of(judge), 4)
    assert (cache.encoded, cache.reused) == (2, 2)


def test_models_that_read_otherwise_share_no_prompt(saved: Path) -> None:
    vlm = policy()
    judge = load_reward_model(saved)
    assert judge.reads_like(vlm)
    for change in ("template", "pixels", "word"):
        other = load_vlm(ModelConfig())
        if change == "template":
            other.processor.chat_template += " "
        elif change == "pixels":
            other.processor.image_processor.image_mean = (0.4, 0.5, 0.5)
        else:
            other.tokenizer.add_tokens(["triangle"])
        assert not judge.reads_like(other)


def changed_card(saved: Path, folder: Path, **change: object) -> Path:
    make(JUDGE).save(folder)
    row = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**row, **change}))
    return folder


def test_it_is_apart_wherever_it_must_be(saved: Path, tmp_path: Path) -> None:
    config = ModelConfig(lora=POLICY)
    vlm = policy()
    assert why_apart(saved, config, vlm) == ""
    full = load_vlm(ModelConfig(), trainable=True)
    assert why_apart(saved, config, full) == "the policy is trained without LoRA"
    eager = ModelConfig(attn_implementation="eager")
    assert why_apart(saved, eager, vlm) == "its attention is eager and the policy's sdpa"
    old = changed_card(saved, tmp_path / "old", base=None)
    assert why_apart(old, config, vlm) == "its card doesn't tell what its adapter was trained on"
    make().save(tmp_path / "full")
    assert why_apart(tmp_path / "full", config, vlm) == "it was trained without LoRA"
    make(LoraSettings(r=2, parts=["language", "vision"])).save(tmp_path / "seeing")
    assert why_apart(tmp_path / "seeing", config, vlm) == (
        "its adapter lies in the vision tower or projector too, so that image features aren't the policy's"
    )
    moved = policy()
    with torch.no_grad():
        moved.core.base_model.language_model.norm.weight[0] += 1e-6
    weights = "it was trained on other weights than the policy starts from, or in another precision"
    assert why_apart(saved, config, moved) == weights
    half = load_vlm(ModelConfig(lora=POLICY, dtype="bfloat16"), trainable=True)
    assert why_apart(saved, config, half) == weights
    other = policy()
    other.processor.image_processor.size = {"height": 64, "width": 64}
    assert why_apart(saved, config, other) == "its processor isn't the policy's"


def test_an_adapter_of_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = changed_card(saved, tmp_path / "odd")
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"its adapter can't be loaded"):
        load_within(folder, policy())
