import pytest

from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm


@pytest.fixture(scope="session")
def tiny():
    return load_vlm(ModelConfig())
