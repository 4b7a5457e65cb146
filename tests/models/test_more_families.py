"""Families that no code here was written for: in short, what the other tests see of each in full."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from families import MORE
from model_samples import (
    ANSWERS,
    ONE,
    SEVERAL,
    TEXT,
    WIDE,
    disturb,
    logprobs,
    mixed,
    picture,
    plain_logprobs,
    record,
    rows_of,
)

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models import probe
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.generate import generate, sample, uniforms
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import parts_of, save_vlm
from mmrlhf.models.policy import Policy, trainable_state
from mmrlhf.models.vlm import VLM, answer_logits, hidden_states
from mmrlhf.types import Row

CLOSE = {"rtol": 1e-5, "atol": 1e-4}
ROWS_BECAUSE = {
    "qwen3_5": "it has layers of linear_attention",
    "lfm2_vl": "it has layers of conv",
    "chameleon": "its language model is no module of its own",
}
WINDOW = {"aya_vision": 16, "cohere2_vision": 400, "llama4": 8192}
# where a name tells the language model's layers
LANGUAGE = {"idefics2": ".text_model.", "chameleon": ".model.layers."}
# what lies between tower and language model
PROJECTORS = {
    "qwen3_5": ["visual.merger"],
    "glm4v": ["visual.merger"],
    "ovis2": ["visual_embeddings_table"],
    "aya_vision": ["multi_modal_projector"],
    "mistral3": ["multi_modal_projector"],
    "llava_pixtral": ["multi_modal_projector"],
    "idefics2": ["connector"],
    "cohere2_vision": ["multi_modal_projector"],
    "llama4": ["multi_modal_projector"],
    "chameleon": [],
    "perception_lm": ["multi_modal_projector"],
    "lfm2_vl": ["multi_modal_projector"],
    "glm4v_moe": ["visual.merger"],
}


@pytest.fixture(params=MORE)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_batch_gives_each_row_what_a_plain_forward_gives_it(vlm: VLM) -> None:
    records = mixed(vlm)
    rows = rows_of(vlm, records, ANSWERS[: len(records)])
    together = logprobs(vlm, rows)
    for row, batched in zip(rows, together, strict=True):
        torch.testing.assert_close(batched, logprobs(vlm, [row])[0], **CLOSE)
    plain = plain_logprobs(vlm, ONE, "What color is the triangle?", rows[1].answer_ids)
    torch.testing.assert_close(together[1], plain, **CLOSE)


def test_rows_that_exchange_pictures_exchange_log_probs(vlm: VLM) -> None:
    found = []
    for shown in ((picture("red", WIDE), picture("blue")), (picture("blue"), picture("red", WIDE))):
        records = [record(str(i), 0, "What color?", images=[image]) for i, image in enumerate(shown)]
        found.append(logprobs(vlm, rows_of(vlm, [*records, TEXT], ["It is green."] * 3)))
    torch.testing.assert_close(found[0][0], found[1][1], **CLOSE)
    torch.testing.assert_close(found[0][1], found[1][0], **CLOSE)
    assert (found[0][0] - found[0][1]).abs().max() > 1e-3


def test_greedy_answers_are_the_likeliest_of_the_training_forward(vlm: VLM) -> None:
    prompts = [encode_prompt(vlm, item) for item in mixed(vlm)]
    rows = [Row(p, a) for p, a in zip(prompts, generate(vlm, prompts, 6, temperature=0), strict=True)]
    batch = collate(vlm, rows)
    with torch.no_grad():
        hidden = hidden_states(vlm, batch)
        best = answer_logits(vlm, hidden[torch.arange(len(rows)).unsqueeze(1), batch.at_BT]).argmax(-1)
    for i, row in enumerate(rows):
        assert best[i, : len(row.answer_ids)].tolist() == row.answer_ids.tolist()
        assert not set(row.answer_ids.tolist()) & set(vlm.placeholder_ids)
    assert vlm.core.config.image_token_id in vlm.placeholder_ids


def test_answers_in_several_passes_are_those_of_one(vlm: VLM) -> None:
    prompts = [encode_prompt(vlm, item) for item in mixed(vlm)[:2]]
    draws = uniforms([3, 4], 3, 4)
    whole, parts = (
        sample(vlm, prompts, 4, draws, batch_size=batch_size, answers=3) for batch_size in (64, 2)
    )
    assert [answer.ids.tolist() for answer in parts] == [answer.ids.tolist() for answer in whole]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.logprobs, other.logprobs, **CLOSE)


def test_answers_share_their_prompt_or_it_is_said_why_not(vlm: VLM, family: str) -> None:
    assert vlm.rows_because == ROWS_BECAUSE.get(family, "")
    assert vlm.window == WINDOW.get(family)
    rows = []
    asked = [item for item in (TEXT, ONE, SEVERAL) if item in mixed(vlm)]
    for item in asked:
        prompt = encode_prompt(vlm, item)
        rows += [Row(prompt, encode_answer(vlm, answer)) for answer in ANSWERS[:3]]
    apart = dataclasses.replace(vlm, shares_prefix=False)
    batch = collate(vlm, rows)
    each = 3 if family in ROWS_BECAUSE else 1
    assert len(batch.inputs["input_ids"]) == each * len(asked)
    with torch.no_grad():
        ours, theirs = (Policy(m)(collate(m, rows)).logprobs_BT for m in (vlm, apart))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_every_weight_has_its_part_and_lora_the_language_model_alone(
    vlm: VLM, family: str, checkpoint
) -> None:
    trunk = vlm.core.base_model
    parts = parts_of(vlm.core, family)
    names = {id(module): name for name, module in trunk.named_modules()}
    assert [names[id(part)] for part in parts.projectors] == PROJECTORS[family]
    assert len(parts.towers) == 1
    assert vlm.one_by_one == (family == "perception_lm")
    found = [p for part in (parts.language, *parts.projectors, *parts.towers) for p in part.parameters()]
    assert {id(p) for p in (*found, *parts.marks)} == {id(p) for p in trunk.parameters()}
    adapted = load_vlm(ModelConfig(path=checkpoint(family), lora=LoraSettings(r=2)), trainable=True)
    assert all(LANGUAGE.get(family, ".language_model.") in name for name in trainable_state(adapted.model))


def test_what_is_saved_needs_no_more_than_transformers_and_peft(
    vlm: VLM, family: str, checkpoint, tmp_path: Path
) -> None:
    from peft import PeftModel

    adapted = load_vlm(ModelConfig(path=checkpoint(family), lora=LoraSettings(r=2)), trainable=True)
    disturb(adapted)
    rows = rows_of(vlm, [ONE, TEXT], ANSWERS[:2])
    expected = logprobs(adapted, rows)
    assert (expected[0] - logprobs(vlm, rows)[0]).abs().max() > 1e-3
    save_vlm(adapted, tmp_path / "model")
    merged = load_vlm(ModelConfig(path=str(tmp_path / "model")))
    peft = load_vlm(ModelConfig(path=checkpoint(family)))
    peft.model = PeftModel.from_pretrained(peft.core, tmp_path / "model" / "adapter").eval()
    for other in (merged, peft):
        for ours, theirs in zip(logprobs(other, rows), expected, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


def test_padding_is_never_a_token_that_cannot_be_sampled(checkpoint, tmp_path: Path) -> None:
    """Its log-prob would be minus infinity, and times a mask of 0 that is NaN."""
    folder = Path(shutil.copytree(checkpoint("llava_next"), tmp_path / "model"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "<image>"}))
    vlm = load_vlm(ModelConfig(path=str(folder)))
    assert vlm.tokenizer.pad_token == "<image>"
    assert vlm.pad_id == vlm.tokenizer.eos_token_id
    batch = collate(vlm, rows_of(vlm, [TEXT, ONE], ["Red.", "It is green and large."]))
    assert Policy(vlm)(batch).logprobs_BT.isfinite().all()


def test_pictures_of_unlike_shapes_teach_the_tower_as_they_do_alone(checkpoint) -> None:
    """PerceptionLM reads padding as tiles, so its pictures are encoded apart; gradients go through all the same."""
    settings = ModelConfig(path=checkpoint("perception_lm"), freeze_vision_tower=False)
    vlm = load_vlm(settings, trainable=True)
    records = [ONE, record("square", 0, "Describe it.", images=[picture("blue", (84, 28))])]
    rows = rows_of(vlm, records, ANSWERS[:2])
    tower = [p for p in parts_of(vlm.core, "").towers[0].parameters() if p.dim() > 1]

    def gradients(batch: list[Row]) -> list[torch.Tensor]:
        out = collate(vlm, batch)
        loss = (Policy(vlm)(out).logprobs_BT * out.answer_mask_BT).sum()
        return list(torch.autograd.grad(loss, tower))

    alone = [gradients([row]) for row in rows]
    for ours, first, second in zip(gradients(rows), *alone, strict=True):
        torch.testing.assert_close(ours, first + second, rtol=1e-3, atol=1e-3 * ours.abs().max().item())
    with pytest.raises(UserError, match="record several: PerceptionLMProcessor can't read its prompt"):
        encode_prompt(vlm, SEVERAL)


def test_a_picture_with_as_many_patches_as_its_prompt_has_tokens_stays_a_picture(checkpoint) -> None:
    """LFM2-VL's mask of 16 patches would pass for token types where a prompt has 16 tokens."""
    vlm = load_vlm(ModelConfig(path=checkpoint("lfm2_vl")))
    found = [encode_prompt(vlm, record("x", 0, "x" * n, images=[picture("red")])) for n in range(1, 12)]
    sizes = [len(prompt.input_ids) for prompt in found]
    assert 16 in sizes
    assert all(prompt.token_fields == {} and "pixel_attention_mask" in prompt.vision for prompt in found)


def test_marks_around_pictures_are_never_sampled(checkpoint) -> None:
    for family, marks in (
        ("cohere2_vision", ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"]),
        ("mistral3", ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]),
    ):
        vlm = load_vlm(ModelConfig(path=checkpoint(family)))
        assert set(vlm.tokenizer.convert_tokens_to_ids(marks)) == set(vlm.placeholder_ids)
    chameleon = load_vlm(ModelConfig(path=checkpoint("chameleon")))
    pictures = {i for text, i in chameleon.tokenizer.get_vocab().items() if text.startswith("IMGIMG")}
    assert len(pictures) == 16
    assert pictures <= set(chameleon.placeholder_ids)


def test_layers_of_their_own_for_images_are_refused(checkpoint) -> None:
    """Llama 3.2 Vision: its mask says which token sees which image, for the prompt alone."""
    with pytest.raises(
        UserError,
        match="MllamaForConditionalGeneration can't be trained here: its cross_attention_mask has a place for each "
        "token of a prompt and none for an answer's",
    ):
        load_vlm(ModelConfig(path=checkpoint("mllama")))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> VLM:
    monkeypatch.setattr(probe, "_found", {})
    return load_vlm(ModelConfig())


def spoil(vlm: VLM, change) -> None:
    """The hidden states of the trunk, changed."""

    def after(module, args, kwargs, output):
        output.last_hidden_state = change(output.last_hidden_state, kwargs)
        return output

    vlm.core.base_model.register_forward_hook(after, with_kwargs=True)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda hidden, kwargs: hidden + hidden.mean(1, keepdim=True), "a token sees what comes behind it"),
        (lambda hidden, kwargs: hidden + hidden[:1], "rows of a batch change each other"),
        (
            lambda hidden, kwargs: hidden * (2.0 if kwargs.get("past_key_values") is not None else 1.0),
            "sampling reads an answer in another way than training",
        ),
    ],
)
def test_a_family_that_would_give_wrong_log_probs_is_refused(
    tiny: VLM, monkeypatch, change, wrong: str
) -> None:
    probe._found.clear()
    spoil(tiny, change)
    with pytest.raises(UserError, match=f"LlavaForConditionalGeneration can't be trained here: {wrong}"):
        probe.check_rows(tiny)
