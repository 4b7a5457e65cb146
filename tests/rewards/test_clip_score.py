"""CLIPScore on vectors whose cosines are known, and on a small open_clip model made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import judged_records as made
import pytest
import torch

from data_tools.errors import UserError
from data_tools.images import read_image
from mmrlhf.rewards.objectives import ClipScore

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


class Vectors:
    """A model that sees red at (1, 0) and blue at (0, 1), and reads a text as the two numbers in it."""

    def encode_image(self, pixels: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return pixels[:, :, pixels.shape[2] // 2, pixels.shape[3] // 2][:, [0, 2]].round()

    def encode_text(self, tokens: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return tokens[:, :2].float() / 10


def to_pixels(image: Any) -> torch.Tensor:
    import numpy as np

    return torch.tensor(np.asarray(image).copy()).permute(2, 0, 1) / 255


def to_tokens(texts: list[str], context_length: int = 2) -> torch.Tensor:
    return torch.tensor([[int(word) for word in text.split()][:context_length] for text in texts])


@pytest.fixture
def known() -> ClipScore:
    objective = ClipScore(name="clip", prefix="", device="cpu", batch_size=2)
    objective.__dict__["_clip"] = (Vectors(), to_pixels, to_tokens)
    return objective


def test_by_hand(known: ClipScore) -> None:
    """2.5 times 0.6, 0.8, 0 in place of -0.6, and of two pictures the mean of 2.5 times 0.6 and 0.8."""
    records = [
        made.picture("a", "red"),
        made.picture("b", "blue"),
        made.text("c"),
        made.picture("d", "red"),
        made.picture("e", "red", "blue"),
    ]
    values = list(known.values(records, ["6 8", "6 8", "6 8", "-6 8", "6 8"]))
    assert values[2] is None
    assert [values[i] for i in (0, 1, 3, 4)] == pytest.approx([1.5, 2.0, 0.0, 1.75])
    assert known.values([made.text()], ["6 8"]) == [None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, as open_clip saves one."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    row = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(row))
    return folder


def test_a_model_of_open_clip(folder: Path) -> None:
    import open_clip

    objective = ClipScore(name="clip", model=f"local-dir:{folder}", device="cpu", batch_size=3)
    records = [made.picture(str(i), color) for i, color in enumerate(["red", "blue", "green", "red"])]
    texts = ["a red circle", "a blue one", "nothing", "a cat"]
    state = torch.get_rng_state()
    found = objective.score(records, texts)
    assert torch.equal(torch.get_rng_state(), state)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([f"A photo depicts {text}" for text in texts])
        words = model.encode_text(tokens)
        seen = model.encode_image(torch.stack([preprocess(read_image(r.images[0])) for r in records]))
    cosines = (words * seen).sum(1) / (words.norm(dim=1) * seen.norm(dim=1))
    torch.testing.assert_close(found.mean_BK[:, 0], 2.5 * cosines.clamp(min=0), rtol=1e-5, atol=1e-6)
    assert found.mean_BK.std() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(objective.score(records, texts).mean_BK, found.mean_BK, rtol=0, atol=0)


def test_a_text_that_is_cut_is_told_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12 places: the two ends, three of "A photo depicts", and seven words."""
    objective = ClipScore(name="clip", model=f"local-dir:{folder}", device="cpu")
    record = made.picture()
    objective.score([record], ["one two three four five six seven"])
    assert capsys.readouterr().err == ""
    for _ in range(2):
        objective.score([record], ["one two three four five six seven eight"])
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("objective clip: an answer is longer than the 12 tokens that local-dir:") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "ViT-B-33"},
            "ViT-B-33 with the weights laion2b_s34b_b79k can't be loaded: Model config for",
        ),
        ({"pretrained": "no-such-tag"}, "'no-such-tag' is not a known tag or valid file path|no-such-tag"),
        ({"model": "local-dir:/no/such/folder"}, "with the weights beside it can't be loaded: .*not found"),
    ],
)
def test_a_model_that_cannot_be_loaded(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"objective clip: .*{message}"):
        ClipScore(name="clip", device="cpu", **settings).open()  # type: ignore[arg-type]


def test_weights_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    other.mkdir()
    row = json.loads((folder / "open_clip_config.json").read_text())
    row["model_cfg"]["embed_dim"] = 8
    (other / "open_clip_config.json").write_text(json.dumps(row))
    (other / "open_clip_model.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(UserError, match="can't be loaded"):
        ClipScore(name="clip", model=f"local-dir:{other}", device="cpu").open()
    (other / "open_clip_model.safetensors").write_bytes(b"hello")
    with pytest.raises(UserError, match="can't be loaded"):
        ClipScore(name="clip", model=f"local-dir:{other}", device="cpu").open()
