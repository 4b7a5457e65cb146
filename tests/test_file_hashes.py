"""A model's folder tells when one of its files isn't as it was saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.errors import UserError
from mmrlhf.config import ModelConfig
from mmrlhf.file_hashes import HASHES, check_hashes, write_hashes
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.rewards.model import CARD, HEADS, read_files
from mmrlhf.run_folder import save_model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"abc")
    (tmp_path / "config.json").write_text("{}")
    write_hashes(tmp_path)
    return tmp_path


def test_the_hashes_are_those_that_sha256sum_gives(saved: Path) -> None:
    row = json.loads((saved / HASHES).read_text())
    assert sorted(row) == ["adapter/adapter_model.safetensors", "config.json", "model.safetensors"]
    # the first test vector of FIPS 180-2
    assert row["adapter/adapter_model.safetensors"] == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    check_hashes(saved)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: flip(folder / "model.safetensors"), r"model\.safetensors: isn't as it was saved"),
        (lambda folder: (folder / "config.json").write_text(""), r"config\.json: isn't as it was saved"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json: can't be read"),
        (lambda folder: flip(folder / "adapter/adapter_model.safetensors"), "adapter_model"),
        (lambda folder: (folder / HASHES).write_text("{"), rf"{HASHES}: is damaged"),
        (lambda folder: (folder / HASHES).write_text("[1]"), rf"{HASHES}: is damaged"),
    ],
)
def test_what_was_changed_is_named_with_the_remedy(
    saved: Path, harm: Callable[[Path], object], words: str
) -> None:
    harm(saved)
    with pytest.raises(UserError, match=f"{words}.*delete .*{HASHES}"):
        check_hashes(saved)


def test_a_folder_without_hashes_is_taken_as_it_is(saved: Path) -> None:
    flip(saved / "model.safetensors")
    (saved / HASHES).unlink()
    check_hashes(saved)
    check_hashes(Path("owner/name"))  # a hub id is no folder


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    vlm = load_vlm(ModelConfig())

    def save(folder: Path) -> None:
        save_vlm(vlm, folder)
        (folder / CARD).write_text("{}")
        (folder / HEADS).write_bytes(b"heads")

    save_model(tmp_path, save)
    model = tmp_path / "model"
    settings = ModelConfig(path=str(model))
    load_vlm(settings)
    flip(model / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: isn't as it was saved"):
        load_vlm(settings)
    flip(model / "model.safetensors")
    flip(model / HEADS)
    with pytest.raises(UserError, match=rf"{HEADS}: isn't as it was saved"):
        read_files(model)
