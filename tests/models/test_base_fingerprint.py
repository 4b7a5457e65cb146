"""What tells that two models share a base and read alike: of every family, also once it was saved and used."""

import dataclasses
from pathlib import Path

import torch
from model_samples import MIXED

from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.adapters import base_fingerprint
from mmrlhf.models.batch import encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm


def test_a_base_and_a_processor_are_known_again(family: str, checkpoint, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    adapted = load_vlm(ModelConfig(path=checkpoint(family), lora=LoraSettings(r=2)), trainable=True)
    plain = load_vlm(ModelConfig(path=checkpoint(family)))
    assert base_fingerprint(adapted) == base_fingerprint(plain)
    for name, value in adapted.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    assert base_fingerprint(adapted) == base_fingerprint(plain)  # adapters don't count
    for item in MIXED:
        encode_prompt(adapted, item)
    save_vlm(adapted, tmp_path / "model")
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert dataclasses.replace(adapted, processor=processor).reading == plain.reading
    saved = load_vlm(ModelConfig(path=str(tmp_path / "model")))
    assert base_fingerprint(saved) != base_fingerprint(plain)  # it has the adapters merged in


def test_other_settings_are_another_base() -> None:
    one, two = load_vlm(ModelConfig()), load_vlm(ModelConfig())
    two.core.config.text_config.rms_norm_eps = 1e-3
    assert base_fingerprint(one) != base_fingerprint(two)
