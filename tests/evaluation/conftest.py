import pytest

from mmrlhf.config import ModelConfig
from mmrlhf.models.vlm import load_vlm


@pytest.fixture(scope="session")
def tiny():
    return load_vlm(ModelConfig())
