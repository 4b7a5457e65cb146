"""What is trained, what the adapters change, and what a saved model is to plain transformers and plain peft."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import BUILDERS
from model_samples import ANSWERS, MIXED, ONE, TEXT, disturb, logprobs, rows_of
from torch import nn

from data_tools.config import parse_config
from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.adapter_files import adapter_state, save_adapter
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import freeze, left_without_adapters, save_vlm
from mmrlhf.models.policy import Policy, trainable_state
from mmrlhf.models.vision_cache import VisionCache, keep_features
from mmrlhf.models.vlm import VLM

# parameters of the vision tower and of the projector by their names in the checkpoints
TOWER = {
    "tiny": "model.vision_tower.",
    "qwen2_5_vl": "model.visual.",
    "idefics3": "model.vision_model.",
    "llava_next": "model.vision_tower.",
    "llava_onevision": "model.vision_tower.",
    "qwen3_vl": "model.visual.",
    "smolvlm": "model.vision_model.",
    "internvl": "model.vision_tower.",
    "gemma3": "model.vision_tower.",
}
PROJECTOR = {
    "tiny": ("model.multi_modal_projector.",),
    "qwen2_5_vl": ("model.visual.merger.",),
    "idefics3": ("model.connector.",),
    "llava_next": ("model.multi_modal_projector.", "model.image_newline"),
    "llava_onevision": ("model.multi_modal_projector.", "model.image_newline"),
    "qwen3_vl": ("model.visual.merger.", "model.visual.deepstack_merger_list."),
    "smolvlm": ("model.connector.",),
    "internvl": ("model.multi_modal_projector.",),
    "gemma3": ("model.multi_modal_projector.",),
}
LAYERS = {"tiny": 6}  # of the language model; the others have two
LINEARS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def trained(family: str, checkpoint: Callable[[str], str], **settings) -> VLM:
    return load_vlm(ModelConfig(path=checkpoint(family), **settings), trainable=True)


def test_what_is_trained_is_what_the_config_says(family: str, checkpoint) -> None:
    vlm = trained(family, checkpoint, freeze_vision_tower=False, freeze_projector=False)
    for tower, projector in ((False, False), (True, False), (False, True), (True, True)):
        freeze(vlm.core, ModelConfig(freeze_vision_tower=tower, freeze_projector=projector), family)
        roles: dict[str, set[bool]] = {"tower": set(), "projector": set(), "language": set()}
        for name, value in vlm.model.named_parameters():
            # Qwen's projector lies in its tower
            role = "tower" if name.startswith(TOWER[family]) else "language"
            role = "projector" if name.startswith(PROJECTOR[family]) else role
            roles[role].add(value.requires_grad)
        assert roles == {"tower": {not tower}, "projector": {not projector}, "language": {True}}


def test_loading_freezes_what_the_config_says(checkpoint) -> None:
    names = trainable_state(
        trained("tiny", checkpoint, freeze_vision_tower=True, freeze_projector=False).model
    )
    assert not [name for name in names if name.startswith(TOWER["tiny"])]
    assert [name for name in names if name.startswith(PROJECTOR["tiny"])]


def test_a_model_to_score_with_is_frozen(vlm: VLM) -> None:
    assert trainable_state(vlm.model) == {}
    assert not vlm.model.training


def test_lora_touches_the_language_model_only(family: str, checkpoint) -> None:
    vlm = trained(family, checkpoint, lora=LoraSettings(r=2))
    names = list(trainable_state(vlm.model))
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    targets = sorted({name.split(".lora_")[0].removeprefix("base_model.model.") for name in names})
    assert not [name for name in targets if name.startswith((TOWER[family], *PROJECTOR[family]))]
    expected = {f"{i}.{name}" for i in range(LAYERS.get(family, 2)) for name in LINEARS}
    assert {f"{n.split('.')[-3]}.{n.split('.')[-1]}" for n in targets} == expected
    assert len(targets) == len(expected)


PARTS = ["tiny", "qwen3_vl", "idefics3"]


@pytest.mark.parametrize("family", PARTS)
def test_lora_on_projector_and_tower_where_asked(family: str, checkpoint) -> None:
    for chosen in (["vision"], ["projector"], ["language", "projector", "vision"]):
        adapted = trained(family, checkpoint, lora=LoraSettings(r=2, parts=chosen))
        roles = set()
        for name in trainable_state(adapted.model):
            name = name.removeprefix("base_model.model.")
            role = "vision" if name.startswith(TOWER[family]) else "language"
            roles.add("projector" if name.startswith(PROJECTOR[family]) else role)
        assert roles == set(chosen)


@pytest.mark.parametrize("family", PARTS)
def test_lora_on_the_tower_keeps_the_reference_and_is_saved_whole(
    family: str, checkpoint, tmp_path: Path
) -> None:
    from peft import PeftModel

    everywhere = LoraSettings(r=2, parts=["projector", "vision"])
    adapted = trained(family, checkpoint, lora=everywhere)
    base = trained(family, checkpoint)
    rows = rows_of(base, MIXED, ANSWERS)
    expected = logprobs(base, rows)
    disturb(adapted)
    moved = logprobs(adapted, rows)
    for item, ours, theirs in zip(MIXED, moved, expected, strict=True):
        far = (ours - theirs).abs().max()
        assert far > 1e-3 if item.images else far == 0
    with adapted.adapters_off():
        for ours, theirs in zip(logprobs(adapted, rows), expected, strict=True):
            assert torch.equal(ours, theirs)
    # features of a tower that adapters change would be stale after a step, and not the reference's
    assert keep_features(adapted, VisionCache(1 << 20, 1 << 20)) == "its tower or projector is trained"
    assert adapted.vision is None
    save_vlm(adapted, tmp_path / "model")
    merged = load_vlm(ModelConfig(path=str(tmp_path / "model")))
    peft = load_vlm(ModelConfig(path=checkpoint(family)))
    peft.model = PeftModel.from_pretrained(peft.core, tmp_path / "model" / "adapter").eval()
    for other in (merged, peft):
        for ours, theirs in zip(logprobs(other, rows), moved, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_part_without_linear_layers_is_refused(checkpoint) -> None:
    with pytest.raises(
        UserError, match=r"lora\.parts asks for projector, but its projector has no linear layer"
    ):
        trained("gemma3", checkpoint, lora=LoraSettings(parts=["projector"]))
    with pytest.raises(UserError, match=r"lora\.parts"):
        parse_config({"lora": {"parts": []}}, ModelConfig, "test")
    with pytest.raises(UserError, match=r"lora\.parts"):
        parse_config({"lora": {"parts": ["tower"]}}, ModelConfig, "test")


def test_lora_in_a_mixture_leaves_the_experts_alone(checkpoint) -> None:
    """peft would read gate_proj as the experts' weights, and what is merged would not be what was trained."""
    adapted = trained("glm4v_moe", checkpoint, lora=LoraSettings(r=2))
    last = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in trainable_state(adapted.model)}
    assert last == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert left_without_adapters(adapted.core, "") == "experts.down_proj, experts.gate_up_proj"
    with pytest.raises(UserError, match=r"peft can't put adapters where lora\.targets says: .*gate_up_proj"):
        trained("glm4v_moe", checkpoint, lora=LoraSettings(targets=["gate_proj"]))


def test_lora_on_chosen_layers(checkpoint) -> None:
    """The vision tower has a q_proj too."""
    vlm = trained("tiny", checkpoint, lora=LoraSettings(r=2, targets=["q_proj"]))
    assert len(trainable_state(vlm.model)) == 2 * 6
    # fc1 is the tower's, and the head takes no adapter
    for wrong in (["query"], ["q_proj", "v_prj", "fc1", "lm_head"]):
        unknown = ", ".join(name for name in wrong if name != "q_proj")
        with pytest.raises(
            UserError,
            match=rf"names no linear layer {unknown} in language \(there are down_proj, gate_proj, k_proj, o_proj",
        ):
            trained("tiny", checkpoint, lora=LoraSettings(targets=wrong))


def test_a_saved_adapter_is_the_same_file_in_every_process(checkpoint, tmp_path: Path) -> None:
    """peft keeps the names of its layers in a set."""
    save_vlm(trained("tiny", checkpoint, lora=LoraSettings(r=2)), tmp_path)
    names = json.loads((tmp_path / "adapter/adapter_config.json").read_text())["target_modules"]
    assert len(names) > 1
    assert names == sorted(names)


def test_lora_and_a_trained_tower_are_refused() -> None:
    row = {"lora": {"r": 4}, "freeze_projector": False}
    with pytest.raises(UserError, match="with lora only adapters are trained"):
        parse_config(row, ModelConfig, "test")


def test_adapters_off_is_the_base_model_to_the_bit(vlm: VLM, family: str, checkpoint) -> None:
    adapted = trained(family, checkpoint, lora=LoraSettings(r=2))
    rows = rows_of(vlm, MIXED, ANSWERS)
    base = logprobs(vlm, rows)
    for fresh, expected in zip(logprobs(adapted, rows), base, strict=True):
        assert torch.equal(fresh, expected)  # one factor of each adapter starts at 0
    disturb(adapted)
    moved = logprobs(adapted, rows)
    assert min((a - b).abs().max().item() for a, b in zip(moved, base, strict=True)) > 1e-3
    with adapted.adapters_off():
        off = logprobs(adapted, rows)
    for a, b in zip(off, base, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(logprobs(adapted, rows), moved, strict=True):
        assert torch.equal(a, b)


def test_generation_uses_the_adapters(checkpoint) -> None:
    from mmrlhf.models.generate import generate

    adapted = trained("tiny", checkpoint, lora=LoraSettings(r=4))
    prompts = [encode_prompt(adapted, ONE)]
    before = generate(adapted, prompts, 8, temperature=0)[0].tolist()
    disturb(adapted, std=2.0)  # far enough that no model would keep its answer
    after = generate(adapted, prompts, 8, temperature=0)[0].tolist()
    assert after != before
    with adapted.adapters_off():
        assert generate(adapted, prompts, 8, temperature=0)[0].tolist() == before


def test_a_saved_model_needs_only_transformers_or_peft(family: str, checkpoint, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    adapted = trained(family, checkpoint, lora=LoraSettings(r=2))
    disturb(adapted)
    inputs = collate(adapted, rows_of(adapted, MIXED, ANSWERS)).inputs
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = adapted.core(**inputs).logits.log_softmax(-1)[real]
    state = {name: value.clone() for name, value in adapted.model.state_dict().items()}
    save_vlm(adapted, tmp_path / "model")
    for name, value in adapted.model.state_dict().items():
        assert torch.equal(value, state[name]), f"saving changed {name}"

    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            merged(**inputs).logits.log_softmax(-1)[real], expected, rtol=1e-5, atol=1e-4
        )
    assert not [name for name in merged.state_dict() if "lora" in name]

    base = AutoModelForImageTextToText.from_pretrained(load_path(checkpoint(family)))
    with_adapter = PeftModel.from_pretrained(base, tmp_path / "model" / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            with_adapter(**inputs).logits.log_softmax(-1)[real], expected, rtol=1e-5, atol=1e-4
        )

    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert processor.chat_template == adapted.processor.chat_template
    assert (
        sorted(p.suffix for p in (tmp_path / "model").rglob("*") if p.suffix in (".bin", ".pt", ".pkl")) == []
    )


def test_save_and_load_without_adapters(family: str, checkpoint, tmp_path: Path) -> None:
    vlm = trained(family, checkpoint)
    vlm.core.get_output_embeddings().weight.data.mul_(1.1)
    save_vlm(vlm, tmp_path / "model")
    again = load_vlm(ModelConfig(path=str(tmp_path / "model")))
    rows = rows_of(vlm, MIXED, ANSWERS)
    for a, b in zip(logprobs(vlm, rows), logprobs(again, rows), strict=True):
        assert torch.equal(a, b)
    described = (
        "pad_id",
        "end_id",
        "end_ids",
        "placeholder_ids",
        "special_tokens",
        "answer_lead",
        "template_adds_bos",
    )
    assert [getattr(again, name) for name in described] == [getattr(vlm, name) for name in described]


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        *((family, None) for family in ("tiny", *BUILDERS)),
        ("tiny", LoraSettings(r=2)),
        ("qwen3_vl", LoraSettings(r=2)),
    ],
)
def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients(
    family: str, checkpoint, lora
) -> None:
    def gradients(on: bool) -> tuple[dict[str, torch.Tensor], int]:
        torch.manual_seed(0)
        vlm = trained(family, checkpoint, lora=lora, gradient_checkpointing=on)
        disturb(vlm)
        calls = 0

        def count(module: nn.Module, inputs) -> None:
            nonlocal calls
            calls += 1

        last = [
            m
            for name, m in vlm.core.named_modules()
            if name.endswith("gate_proj") and TOWER[family] not in f"{name}."
        ]
        last[-1].register_forward_pre_hook(count)
        policy = Policy(vlm)
        rows = rows_of(vlm, [TEXT, ONE], ["Red.", "It is."])
        policy(collate(vlm, rows)).logprobs_BT.sum().backward()
        assert not any(module.training for module in vlm.core.modules())
        return {name: p.grad for name, p in vlm.model.named_parameters() if p.grad is not None}, calls

    plain, once = gradients(False)
    recomputed, twice = gradients(True)
    assert (once, twice) == (1, 2)
    assert plain.keys() == recomputed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(recomputed[name], value, rtol=1e-4, atol=1e-5)


def test_pixel_limits_reach_the_processor(checkpoint) -> None:
    """A picture of 56 x 28 pixels is 2 tokens; within 28 x 28 pixels it is 1, and from 112 x 56 on it is 8."""
    counts = []
    for limits in (
        {},
        {"min_pixels": 28 * 28, "max_pixels": 28 * 28},
        {"min_pixels": 112 * 56, "max_pixels": 112 * 112},
    ):
        vlm = load_vlm(ModelConfig(path=checkpoint("qwen2_5_vl"), **limits))
        ids = encode_prompt(vlm, ONE).input_ids
        counts.append(int((ids == vlm.processor.image_token_id).sum()))
    assert counts == [2, 1, 8]


def load_path(path: str) -> str:
    from mmrlhf.models.load import TINY

    return str(TINY) if path == "tiny" else path


@pytest.fixture
def renaming(monkeypatch: pytest.MonkeyPatch) -> Callable[[VLM, str, str], None]:
    """Gives a family a rule for old checkpoints."""
    from transformers.core_model_loading import WeightRenaming

    conversion = pytest.importorskip("peft.utils.transformers_weight_conversion")

    def rename(vlm: VLM, old: str, new: str) -> None:
        rules = [WeightRenaming(old, new)]
        monkeypatch.setattr(conversion, "get_checkpoint_conversion_mapping", lambda kind: rules)
        monkeypatch.setattr(conversion, "get_model_conversion_mapping", lambda model: list(rules))
        vlm.core._weight_conversions = rules

    return rename


def test_an_adapter_is_saved_by_names_that_peft_reads_back(checkpoint, tmp_path: Path, renaming) -> None:
    """A rule for old checkpoints that today's names meet too: peft would make language_model_model of them."""
    from peft import PeftModel

    vlm = trained("tiny", checkpoint, lora=LoraSettings(r=2))
    disturb(vlm)
    rows = rows_of(vlm, [ONE, TEXT], ["Red.", "A circle"])
    expected = logprobs(vlm, rows)
    renaming(vlm, "language", "language_model")
    save_adapter(vlm, tmp_path)
    plain = load_vlm(ModelConfig())
    renaming(plain, "language", "language_model")
    plain.model = PeftModel.from_pretrained(plain.core, tmp_path).eval()
    for ours, theirs in zip(logprobs(plain, rows), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_an_adapter_that_peft_would_lose_is_refused(checkpoint, renaming) -> None:
    vlm = trained("tiny", checkpoint, lora=LoraSettings(r=2))
    renaming(vlm, "layers", "layers_layers")
    vlm.core._weight_conversions = None
    with pytest.raises(
        UserError, match="can't read an adapter of LlavaForConditionalGeneration back from its file"
    ):
        adapter_state(vlm)
