"""The frozen reference has the policy's dtype, also on a GPU, where by default only what is trained is float32."""

import pytest
import torch
from accelerate import Accelerator

from mmrlhf.config import ModelConfig, RunConfig
from mmrlhf.run_models import RunModels

TORCH_DTYPE = ModelConfig.torch_dtype


def torch_dtype_of_a_gpu(settings: ModelConfig, _: torch.device, full_training: bool = False) -> torch.dtype:
    return TORCH_DTYPE(settings, torch.device("cuda"), full_training)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_reference_has_the_dtype_of_its_policy(
    monkeypatch: pytest.MonkeyPatch, dtype: str, expected: torch.dtype
) -> None:
    monkeypatch.setattr(ModelConfig, "torch_dtype", torch_dtype_of_a_gpu)
    models = RunModels(
        RunConfig.model_validate({"name": "dtypes", "model": {"path": "tiny"}, "data": "data"}),
        Accelerator(cpu=True),
    )
    start = ModelConfig(path="tiny", dtype=dtype)  # type: ignore[arg-type]
    policy = models.load(start, trainable=True)
    reference = models._reference(start, policy)
    assert {weight.dtype for weight in policy.model.parameters()} == {expected}
    assert {weight.dtype for weight in reference.model.parameters()} == {expected}
