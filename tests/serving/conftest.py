"""One small reward model and one server of it, shared by the tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving_samples import make_judge, served

from mmrlhf.rewards.model import RewardModel


@pytest.fixture(scope="session")
def judge() -> RewardModel:
    return make_judge()


@pytest.fixture(scope="session")
def url(judge: RewardModel) -> Iterator[str]:
    with served(
        judge, max_request_mb=0.5, max_pixels=96 * 96, max_images=3, max_queue=12, max_tokens=400
    ) as (
        address,
        _,
    ):
        yield address
