"""Checkpoints of several families, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from families import BUILDERS, MORE, OTHERS

from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vlm import VLM

FAMILIES = ("tiny", *BUILDERS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The path of a family's checkpoint, built when it is first asked for."""
    made: dict[str, str] = {"tiny": "tiny"}

    def path(family: str) -> str:
        if family not in made:
            folder: Path = tmp_path_factory.mktemp("checkpoints") / family
            (BUILDERS | MORE | OTHERS)[family](folder)
            made[family] = str(folder)
        return made[family]

    return path


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def _loaded() -> dict[str, VLM]:
    return {}


@pytest.fixture
def vlm(family: str, checkpoint: Callable[[str], str], _loaded: dict[str, VLM]) -> VLM:
    """A frozen model of the family; shared by tests, so none may change it."""
    if family not in _loaded:
        _loaded[family] = load_vlm(ModelConfig(path=checkpoint(family)))
    return _loaded[family]
