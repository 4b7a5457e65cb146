"""The reward stage over several epochs: a picture is encoded once, and a resumed run goes on to the bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_tools.images import encode_png
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, ModelConfig, RewardConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.training.engine import Engine, Update, make_accelerator
from mmrlhf.training.reward import RewardStage

COLORS = ["red", "green", "blue", "yellow", "black", "white"]


class Dies(Exception):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs") / "data"
    write_shards(
        [
            PreferenceRecord(
                id=f"r{number}",
                source="pairs",
                prompt=(user(0, "Which color is it?"),),
                images=(ImageRef.of_bytes(encode_png(Image.new("RGB", (48, 48), color))),),
                responses=(Response(f"It is {color}."), Response("It is pink.")),
                comparisons=(Comparison("factuality", better=0, worse=1),),
            )
            for number, color in enumerate(COLORS)
        ],
        folder,
    )
    return str(folder)


def train(data: str, folder: Path, dies_at: int | None = None, keep: bool = True) -> tuple[RewardStage, int]:
    """The stage after three epochs of three steps each, and how many times the tower was called."""
    engine = EngineConfig(checkpoint_every=2, tensorboard=False)
    torch.manual_seed(0)
    vlm = load_vlm(ModelConfig(), trainable=True)
    if keep:
        cache = vision_cache(engine, alone=True)
        assert cache is not None
        assert keep_features(vlm, cache) == ""
    config = RewardConfig(objectives=["factuality"], epochs=3, batch_size=2, optim={"lr": 1e-3})
    stage = RewardStage(vlm, config, data, 0, make_accelerator(engine))
    own = stage.updates
    calls: list[int] = []
    parts_of(vlm.core, "").towers[0].register_forward_hook(lambda *_: calls.append(1))

    def updates(step: int) -> Iterator[Update]:
        if step == dies_at:
            raise Dies
        yield from own(step)

    stage.updates = updates  # type: ignore[method-assign]
    Engine(folder, engine, 0, stage.accelerator).train(stage)
    return stage, len(calls)


def test_pictures_are_encoded_once_over_all_epochs(data: str, tmp_path: Path) -> None:
    kept, calls = train(data, tmp_path / "kept")
    assert calls == len(COLORS)
    plain, more = train(data, tmp_path / "plain", keep=False)
    assert more == 9
    for ours, theirs in zip(kept.module.parameters(), plain.module.parameters(), strict=True):
        # AdamW's first steps are the rate, 1e-3, whatever the gradient: one near 0 moves by what rounding says
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-5)


def test_a_resumed_run_goes_on_to_the_bit(data: str, tmp_path: Path) -> None:
    whole, _ = train(data, tmp_path / "whole")
    with pytest.raises(Dies):
        train(data, tmp_path / "again", dies_at=7)
    again, _ = train(data, tmp_path / "again")
    assert (tmp_path / "again/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    for ours, theirs in zip(again.module.parameters(), whole.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
