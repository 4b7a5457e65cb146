"""Ways in which projects like this one have failed, each a test of the public pieces put together.

The tests build on the samples of `tests/models` and on the PPO stage of `tests/training`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.build import DataConfig, build
from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vlm import VLM

for beside in ("models", "training"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / beside))

FAMILIES = ("tiny", "qwen2_5_vl", "idefics3")  # a picture each, patches of all pictures in one tensor, tiles


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VLM]:
    """Loads a new model of a family, frozen unless settings of its training are given."""
    from families import BUILDERS

    made = {"tiny": "tiny"}

    def new(family: str, **settings: object) -> VLM:
        if family not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / family
            BUILDERS[family](folder)
            made[family] = str(folder)
        config = ModelConfig.model_validate({"path": made[family], **settings})
        return load_vlm(config, trainable=bool(settings))

    return new


@pytest.fixture(scope="session")
def _loaded() -> dict[str, VLM]:
    return {}


@pytest.fixture(params=FAMILIES)
def vlm(request: pytest.FixtureRequest, load: Callable[..., VLM], _loaded: dict[str, VLM]) -> VLM:
    """A frozen model of each family; shared, so no test may change it."""
    if request.param not in _loaded:
        _loaded[request.param] = load(request.param)
    return _loaded[request.param]


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set of prompts, two thirds of them with a picture."""
    folder = tmp_path_factory.mktemp("data") / "prompts"
    source = {"type": "prompts", "images": 24, "texts": 12, "splits": {"train": 1.0}}
    build(DataConfig.model_validate({"sources": [source]}), folder)
    return str(folder)
