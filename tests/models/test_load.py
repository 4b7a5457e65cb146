"""What is said of a path that is no vision-language model."""

import itertools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from families import BUILDERS, train_tokenizer

from data_tools.errors import UserError
from mmrlhf.config import ModelConfig
from mmrlhf.models.deadline import TookTooLong, deadline
from mmrlhf.models.load import TINY, _check_kind, _check_processor, load_vlm
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vlm import head_logits


def refusal(path: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_vlm(ModelConfig(path=str(path)))
    message = str(caught.value)
    assert message.startswith(f"model {path}: ")
    return message


@pytest.mark.parametrize("path", ["/no/such/model", "./model", "no-owner", "a/b/c"])
def test_no_such_directory(path: str) -> None:
    assert "no such directory (nor a hub id of the form owner/name, nor 'tiny')" in refusal(path)


def test_a_hub_model_that_cannot_be_had() -> None:
    """The tests run without the hub."""
    assert "transformers can't load it" in refusal("nobody-at-all/no-such-model")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is a file; a model is a directory" in refusal(tmp_path / "model.safetensors")


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "the folder has no config.json" in refusal(tmp_path)


def test_a_text_only_model(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(["<pad>", "<end>"], eos_token="<end>", pad_token="<pad>")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "image-text-to-text" in refusal(tmp_path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The bundled model, to be damaged."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


def test_weights_cut_short(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:100_000])
    assert "can't load it" in refusal(copy)


def test_weights_that_are_no_safetensors(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors").write_bytes(b"hello")
    assert "can't load it" in refusal(copy)


def test_weights_missing(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(copy)


def test_weights_in_part(copy: Path) -> None:
    """transformers fills what is missing with random numbers and says so in a log that nobody reads."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    gone = next(name for name in sorted(weights) if name.endswith("q_proj.weight") and "language" in name)
    del weights[gone]
    (copy / "model.safetensors").unlink()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "1 of its weights" in refusal(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json"])
def test_a_damaged_json_file(copy: Path, name: str) -> None:
    (copy / name).write_text('{"half": ')
    assert "can't load it" in refusal(copy)


def test_no_chat_template(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(copy)


def test_a_chat_template_that_takes_words_alone(copy: Path) -> None:
    template = copy / "chat_template.jinja"
    template.chmod(0o644)
    template.write_text("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}")
    assert "its chat template is for text alone" in refusal(copy)


def test_a_chat_template_that_fails(copy: Path) -> None:
    template = copy / "chat_template.jinja"
    template.chmod(0o644)
    template.write_text("{{ raise_exception('no such role') }}")
    assert "its chat template fails on a question and its answer: no such role" in refusal(copy)


def test_a_processor_of_words_alone(copy: Path) -> None:
    """What is told of images is missing."""
    (copy / "processor_config.json").unlink()
    assert "transformers can't load it as an image-text-to-text model" in refusal(copy)


def test_a_processor_without_images() -> None:
    """A tokenizer alone is what AutoProcessor gives for some families."""
    processor = SimpleNamespace(tokenizer=object(), chat_template="x")
    with pytest.raises(
        UserError, match="model p: its SimpleNamespace has no image_processor, so prompts with"
    ):
        _check_processor(processor, "p")


def test_a_chat_template_that_never_ends(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jinja bounds one range, but not ranges in ranges, nor loops over long texts."""
    monkeypatch.setattr("mmrlhf.models.load.TEMPLATE_SECONDS", 0.2)
    template = copy / "chat_template.jinja"
    template.chmod(0o644)
    loops = "{% for a in 'x' * 9999 %}" * 4 + "{% endfor %}" * 4
    template.write_text(loops + "{{ messages[0]['role'] }}")
    assert "its chat template takes more than 0.2 s for a question and its answer" in refusal(copy)


def test_what_ends_in_time_goes_on() -> None:
    with deadline(60):
        total = sum(range(1000))
    assert total == 499500
    with pytest.raises(TookTooLong), deadline(0.05):
        any(n < 0 for n in itertools.count())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights(copy: Path, name: str) -> None:
    (copy / "model.safetensors").rename(copy / name)
    assert f"its weights are pickled ({name}), which can run code" in refusal(copy)


def change_config(copy: Path, **text: object) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["text_config"] |= text
    (copy / "config.json").chmod(0o644)
    (copy / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("size", [10**6, 10**12])
def test_a_vocabulary_that_the_weights_do_not_have(copy: Path, size: int) -> None:
    change_config(copy, vocab_size=size)
    assert f"config.json says vocab_size {size:,}, but no weight in its files has more than" in refusal(copy)


@pytest.mark.parametrize(
    "wrong",
    [{"hidden_size": 128}, {"intermediate_size": 7}, {"num_attention_heads": -1}, {"hidden_size": "wide"}],
    ids=str,
)
def test_a_config_of_another_shape(copy: Path, wrong: dict[str, object]) -> None:
    change_config(copy, **wrong)
    message = refusal(copy)
    assert (
        "transformers can't load it as an image-text-to-text model" in message or "another shape" in message
    )
    assert "\n" not in message


def test_weights_of_another_shape(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    name = next(name for name in sorted(weights) if name.endswith("q_proj.weight"))
    weights[name] = weights[name][:, :-1].contiguous()
    (copy / "model.safetensors").unlink()
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    message = refusal(copy)
    assert "1 of its weights have another shape than its config says" in message
    assert "self_attn.q_proj.weight ((160, 159), not (160, 160))" in message


def test_an_encoder_decoder_is_called_by_its_name() -> None:
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True, get_text_config=lambda: None))
    with pytest.raises(
        UserError, match="model p: SimpleNamespace is an encoder-decoder, which reads an answer apart"
    ):
        _check_kind(model, "p")


def test_rows_of_a_head_that_are_no_tokens_have_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inkling's head is padded to a round number of rows, and its forward cuts them off."""
    family = type(load_vlm(ModelConfig()).core)
    own = family.forward

    def cut(self, *args, **kwargs):
        out = own(self, *args, **kwargs)
        out.logits = out.logits[..., :-3]
        return out

    monkeypatch.setattr(family, "forward", cut)
    vlm = load_vlm(ModelConfig())
    rows = vlm.head.weight.shape[0]
    assert vlm.vocabulary == rows - 3
    assert head_logits(vlm, torch.zeros(1, vlm.head.weight.shape[1])).shape == (1, rows - 3)


def test_logits_that_another_way_would_give(copy: Path) -> None:
    """A soft cap that the family's own forward doesn't apply: our log-probs would not be the model's."""
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["final_logit_softcapping"] = 2.0
    (copy / "config.json").chmod(0o644)
    (copy / "config.json").write_text(json.dumps(config))
    assert "changes its logits in a way that is not known here" in refusal(copy)


def test_a_factor_behind_the_head_is_found_in_the_config(monkeypatch) -> None:
    """Granite divides by a number of its config, HyperCLOVA X multiplies with one; each calls it by its own name."""
    family = type(load_vlm(ModelConfig()).core)
    own = family.forward

    def scaled(self, *args, **kwargs):
        out = own(self, *args, **kwargs)
        out.logits = out.logits / self.config.text_config.max_position_embeddings
        return out

    monkeypatch.setattr(family, "forward", scaled)
    vlm = load_vlm(ModelConfig())
    assert vlm.logit_factor == 1 / vlm.core.config.text_config.max_position_embeddings


def test_head_logits_are_scaled_and_capped_as_the_text_config_says() -> None:
    vlm = load_vlm(ModelConfig())
    hidden = torch.randn(1, 160, generator=torch.Generator().manual_seed(0))
    plain = head_logits(vlm, hidden)[0, :3].tolist()
    vlm.logit_factor, vlm.core.config.text_config.final_logit_softcapping = 0.25, 0.5
    by_hand = [0.5 * math.tanh(value / 4 / 0.5) for value in plain]
    assert head_logits(vlm, hidden)[0, :3].tolist() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("family", ["tiny", *BUILDERS])
def test_every_weight_is_language_projector_or_tower(family: str, checkpoint) -> None:
    model = load_vlm(ModelConfig(path=checkpoint(family))).core
    parts = parts_of(model, family)
    found = [parts.language, *parts.projectors, *parts.towers]
    assert parts.projectors
    assert parts.towers
    marks = {id(p) for p in parts.marks}
    assert len(marks) == ("llava_" in family)
    assert marks | {id(p) for part in found for p in part.parameters()} == {
        id(p) for p in model.base_model.parameters()
    }
    language = {id(p) for p in parts.language.parameters()}
    assert not language & {id(p) for part in found[1:] for p in part.parameters()}
