"""What is saved has the names of the hub's checkpoints, which engines read, and is read back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.merged import merged_state
from mmrlhf.models.parts import save_vlm

# the first parts of names in the index files of checkpoints on the hub: llava-hf/llava-interleave-qwen-0.5b-hf,
# llava-hf/llava-v1.6-mistral-7b-hf, Qwen/Qwen2.5-VL-3B-Instruct, google/gemma-3-4b-it, OpenGVLab/InternVL3-1B-hf
HUB = {
    "tiny": {"language_model.model", "multi_modal_projector", "vision_tower.vision_model"},
    "llava_next": {
        "image_newline",
        "language_model.lm_head",
        "language_model.model",
        "multi_modal_projector",
        "vision_tower.vision_model",
    },
    "qwen2_5_vl": {"lm_head", "model.embed_tokens", "model.layers", "model.norm", "visual"},
    "gemma3": {"language_model.model", "multi_modal_projector", "vision_tower.vision_model"},
    "internvl": {
        "language_model.lm_head",
        "language_model.model",
        "multi_modal_projector",
        "vision_tower.embeddings",
        "vision_tower.encoder",
    },
}


def names_in(folder: Path) -> list[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return list(file.keys())


@pytest.mark.parametrize("lora", [None, LoraSettings(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize("family", HUB)
def test_saved_under_the_names_of_the_hub(
    family: str, lora: LoraSettings | None, checkpoint, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    vlm = load_vlm(ModelConfig(path=checkpoint(family), lora=lora), trainable=True)
    with torch.no_grad():
        for parameter in vlm.model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    trained = {name: value.clone() for name, value in merged_state(vlm).state.items()}
    save_vlm(vlm, tmp_path / "model")
    names = names_in(tmp_path / "model")
    firsts = {next((first for first in HUB[family] if name.startswith(f"{first}.")), name) for name in names}
    assert firsts == HUB[family]

    read, loading = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", output_loading_info=True, dtype=torch.float32
    )
    assert not any(loading.values())
    state = read.state_dict()
    assert state.keys() == trained.keys()
    assert all(torch.equal(state[name], value) for name, value in trained.items())
    # and once more from there, now that the folder has these names
    save_vlm(load_vlm(ModelConfig(path=str(tmp_path / "model"))), tmp_path / "again")
    assert names_in(tmp_path / "again") == names
