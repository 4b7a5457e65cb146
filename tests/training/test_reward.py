"""The reward stage on data in which some prompts are too long."""

from pathlib import Path

import pytest

from data_tools.errors import UserError
from data_tools.schema import Comparison, PreferenceRecord, Response, user
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, ModelConfig, RewardConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.training.engine import make_accelerator
from mmrlhf.training.reward import RewardStage


def stage(folder: Path, prompts: list[str]) -> RewardStage:
    """A reward stage over one text pair for each prompt."""
    records = [
        PreferenceRecord(
            id=f"r{index}",
            source="pairs",
            prompt=(user(prompt),),
            responses=(Response("Yes."), Response("No.")),
            comparisons=(Comparison("safety", better=0, worse=1),),
        )
        for index, prompt in enumerate(prompts)
    ]
    write_shards(records, folder)
    config = RewardConfig(objectives=["safety"], max_prompt_tokens=20, batch_size=4)
    return RewardStage(
        load_vlm(ModelConfig(), trainable=True), config, str(folder), 0, make_accelerator(EngineConfig())
    )


def test_prompts_that_are_too_long_are_left_out_of_the_card(tmp_path: Path) -> None:
    made = stage(tmp_path / "data", ["Is it hot?", "word " * 50, "Is it cold?"])
    assert list(made.updates(0))
    made.finish()
    norms = made.reward_model.card.norms
    assert {name: list(of) for name, of in norms.items()} == {"safety": ["text"]}
    assert norms["safety"]["text"][1] > 0


def test_nothing_but_prompts_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"every record of a batch had to be left out; the last: record r0: .* over the limit of 20",
    ):
        list(stage(tmp_path / "data", ["word " * 50]).updates(0))
