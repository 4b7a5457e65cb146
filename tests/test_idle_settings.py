"""A setting that nothing reads under the others is refused with the config, and says what to set instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_tools.config import dump_yaml, load_config, parse_config
from data_tools.errors import UserError
from mmrlhf.config import RunConfig

IDLE: list[tuple[dict[str, Any], str]] = [
    (
        {"sft": {"optim": {"schedule": "constant", "final": 0.5}}},
        "sft.optim: final: does nothing with schedule: constant",
    ),
    (
        {"reward": {"grounding": {"image_conditional": {"kinds": ["swap"]}}}},
        "reward.grounding.image_conditional: kinds: does nothing at a weight of 0; set weight above 0",
    ),
    (
        {"reward": {"grounding": {"image_conditional": {"kinds": ["swap"], "objectives": ["safety"]}}}},
        "reward.grounding.image_conditional: kinds, objectives: does nothing at a weight of 0",
    ),
    (
        {"reward": {"grounding": {"reweight": {"lr": 0.1}}}},
        "reward.grounding.reweight: lr: does nothing at a weight of 0",
    ),
    (
        {"reward": {"margin_scale": 0.5, "weights": {"pair": 0}}},
        "reward: margin_scale: does nothing where weights.pair is 0",
    ),
    (
        {"reward": {"rating_loss": "squared", "weights": {"rating": 0}}},
        "reward: rating_loss: does nothing where weights.rating is 0",
    ),
    (
        {"reward": {"center": 0.5, "weights": {"pair": 0, "ranking": 0}}},
        "reward: center: does nothing where weights.pair and weights.ranking are 0",
    ),
    (
        {"reward": {"center": 0.5, "objectives": ["safety"], "cost_heads": ["safety"]}},
        "reward: center: does nothing where",
    ),
    (
        {"reward": {"grounding": {"flips": 1.0}, "weights": {"pair": 0, "ranking": 0}}},
        "reward: grounding.flips: does nothing where",
    ),
    (
        {"reward": {"grounding": {"reweight": {"weight": 1.0}}, "weights": {"pair": 0}}},
        "reward: grounding.reweight: does nothing where weights.pair is 0",
    ),
    (
        {"reward": {"grounding": {"length": 0.1}, "weights": {"pair": 0}}},
        "reward: grounding.length: does nothing where weights.pair is 0",
    ),
    (
        {"reward": {}, "evaluate": {"generate_batch_size": 128}},
        "evaluate: generate_batch_size: 128 is above batch_size (64)",
    ),
    (
        {"reward": {}, "evaluate": {"safety_prompts": 100}},
        "evaluate: safety_prompts: does nothing without a safety_split",
    ),
    (
        {"reward": {"objectives": ["safety"], "gate": {"objective": "overall"}}},
        "reward: gate: weighs several objectives, and there is one",
    ),
    (
        {"reward": {"mixture": {"type": "adaptive", "floor": 1}}},
        "reward.mixture: floor: at 1 each source keeps its planned share",
    ),
    (
        {"engine": {"vision_cache_gb": 0, "vision_cache_host_gb": 4}},
        "engine: vision_cache_host_gb: does nothing where vision_cache_gb is 0",
    ),
    (
        {"reward": {}, "ppo": {}, "evaluate": {"weights": [{"safety": 1}]}},
        "evaluate.weights: does nothing where no variant reads weights",
    ),
    (
        {
            "ppo": {"objectives": [{"type": "length", "name": "brief", "target": 5}]},
            "evaluate": {"pairs": 9},
        },
        "evaluate.pairs: does nothing without a reward section",
    ),
]


@pytest.mark.parametrize(("sections", "message"), IDLE)
def test_settings_that_do_nothing_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config({"name": "r", "data": "d", **sections}, RunConfig, "run.yaml")
    assert f"run.yaml: {message}" in str(caught.value)


@pytest.mark.parametrize(
    "sections",
    [
        {"sft": {"optim": {"schedule": "constant"}}},
        {"reward": {"grounding": {"image_conditional": {"weight": 0.5, "kinds": ["swap"]}}}},
        {"reward": {"weights": {"pair": 0}, "center": 0}},
        {"reward": {"weights": {"pair": 0}, "margin_scale": 0.0, "rating_loss": "huber"}},
        {"engine": {"vision_cache_gb": 0}},
        {"reward": {}, "ppo": {}, "evaluate": {"pairs": 9}},
        {"reward": {}, "evaluate": {"safety_split": "harm", "safety_prompts": 9}},
        {
            "reward": {},
            "ppo": {"variants": [{"name": "a", "scalarizer": "preference_conditioned"}]},
            "evaluate": {"weights": [{"safety": 1}]},
        },
    ],
)
def test_a_config_that_a_run_wrote_says_nothing_by_its_defaults(
    tmp_path: Path, sections: dict[str, Any]
) -> None:
    config = parse_config({"name": "r", "data": "d", **sections}, RunConfig, "run.yaml")
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    assert yaml.safe_load(path.read_text())["engine"]["vision_cache_host_gb"] == 8.0
    assert load_config(path, RunConfig) == config
