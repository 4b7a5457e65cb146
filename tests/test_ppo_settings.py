"""Settings of reinforcement learning that would do nothing, or that don't go with each other, are refused with what to
set instead; so are algorithms of the user's that PPO couldn't work with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError
from torch import Tensor

from data_tools.config import Config, dump_yaml, load_config, parse_config
from data_tools.errors import UserError
from data_tools.schema import Message, Part, PreferenceRecord
from data_tools.shards import write_shards
from mmrlhf.config import OptimConfig, PpoConfig, RunConfig
from mmrlhf.preflight import check_data
from mmrlhf.rewards.objectives import ClipScore
from mmrlhf.rewards.scalarizers import Lagrangian, ScalarizerBase
from mmrlhf.rl.algorithms import AlgorithmBase, Scored
from mmrlhf.types import Rewards

GRPO: dict[str, Any] = {"algorithm": {"type": "grpo"}, "answers_per_prompt": 4}
ONE_UPDATE = {"num_ppo_epochs": 1, "num_mini_batches": 1}
PER_OBJECTIVE = {"type": "ppo", "critics": "per_objective"}


def variants(**scalarizer: Any) -> dict[str, Any]:
    return {"variants": [{"name": "v", "scalarizer": scalarizer}]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            (
                {**without, name: value},
                rf"{name}: does nothing with algorithm \w+, which has no critic; leave it out",
            )
            for without in (GRPO, {"algorithm": "reinforce_pp"})
            for name, value in (("value_lr", 1e-3), ("vf_coef", 0.5), ("cliprange_value", 0.5))
        ),
        ({"vf_coef": 0, "value_lr": 1e-3}, "value_lr: does nothing where vf_coef is 0"),
        ({"kl_coef": 0, "kl_target": 6.0}, "kl_target: does nothing where kl_coef is 0"),
        *(
            ({**ONE_UPDATE, name: value}, f"{name}: does nothing with one update a rollout")
            for name, value in {
                "cliprange": 0.1,
                "cliprange_high": 0.28,
                "dual_clip": 3.0,
                "cliprange_value": 0.5,
                "max_update_kl": 0.1,
            }.items()
        ),
        ({**GRPO, "whiten_rewards": True, "kl_coef": 0}, "whiten_rewards: does nothing with algorithm grpo"),
        (
            {**GRPO, "whiten_rewards": True, "kl_in": "loss", "kl_estimator": "k3"},
            "whiten_rewards: does nothing with algorithm grpo",
        ),
        (
            {"algorithm": "reinforce_pp", "whiten_rewards": True, "kl_coef": 0},
            "whiten_rewards: does nothing with algorithm reinforce_pp",
        ),
        ({"algorithm": PER_OBJECTIVE, "whiten_rewards": True}, "whiten_rewards: scores aren't used"),
        (
            {"alarms": {"length": None, "swap_gap": None, "action": "stop"}},
            r"alarms.action: stop does nothing where every bound is null",
        ),
        (
            {"algorithm": {"type": "reinforce_pp", "baseline": "group"}},
            "algorithm reinforce_pp: compares the answers to a prompt, so answers_per_prompt must be 2 or more",
        ),
        *(
            (
                {"algorithm": PER_OBJECTIVE, **variants(**scalarizer)},
                "is no weighted sum, which critics: per_objective",
            )
            for scalarizer in (
                {"type": "worst_case"},
                {"type": "chebyshev"},
                {"type": "nash"},
                {"type": "threshold", "thresholds": {"a": 1}},
                {"type": "lexicographic", "order": ["a", "b"]},
                {"type": "safety_gate"},
                {"type": "preference_conditioned", "inner": {"type": "nash"}},
            )
        ),
        (
            {
                **GRPO,
                "algorithm": {"type": "grpo", "scale": "group"},
                **variants(type="standardised", over="group"),
            },
            r"algorithm.scale: group would once more.*Leave scale out, or set it to batch or none",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PpoConfig.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [
        # the penalty is off, and what shapes it waits: a row of runs over kl_coef begins at 0
        {"kl_coef": 0, "kl_in": "loss", "kl_estimator": "k3"},
        # beside a KL in the reward the scores' scale counts
        {**GRPO, "whiten_rewards": True},
        {
            "algorithm": {"type": "grpo", "scale": "none"},
            "answers_per_prompt": 2,
            "whiten_rewards": True,
            "kl_coef": 0,
        },
        {"algorithm": {"type": "reinforce_pp", "gamma": 0.9}, "whiten_rewards": True, "kl_coef": 0},
        {"algorithm": "rloo", "answers_per_prompt": 2, "whiten_rewards": True, "kl_coef": 0},
        {"num_ppo_epochs": 1, "max_update_kl": 0.1},
        *(
            {"algorithm": PER_OBJECTIVE, "answers_per_prompt": 2, **variants(**scalarizer)}
            for scalarizer in (
                {"type": "weighted_sum"},
                {"type": "standardised", "over": "group"},
                {"type": "gated"},
                {"type": "lagrangian", "at_least": {"a": 0}},
                {"type": "preference_conditioned"},
            )
        ),
        {**GRPO, **variants(type="standardised", over="group")},
        {
            **GRPO,
            "algorithm": {"type": "grpo", "scale": "batch"},
            **variants(type="standardised", over="group"),
        },
    ],
)
def test_what_does_something_is_let_through(settings: dict[str, Any]) -> None:
    PpoConfig.model_validate(settings)


def test_a_config_that_a_run_leaves_behind_is_read_again(tmp_path: Path) -> None:
    """It writes out the settings of a critic that GRPO doesn't have, at their defaults."""
    row = {"name": "r", "data": "d", "reward": {}, "ppo": {**GRPO, **ONE_UPDATE}}
    config = RunConfig.model_validate(row)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert "vf_coef: 0.1" in (tmp_path / "config.yaml").read_text()
    assert load_config(tmp_path / "config.yaml", RunConfig) == config
    with pytest.raises(UserError, match=r"ppo: vf_coef: does nothing with algorithm grpo"):
        load_config(tmp_path / "config.yaml", RunConfig, ["ppo.vf_coef=0.2"])


def test_settings_of_plugins_that_would_do_nothing() -> None:
    with pytest.raises(
        ValidationError, match="pretrained: does nothing, since hf-hub:a/b brings its own weights"
    ):
        ClipScore(name="c", model="hf-hub:a/b", pretrained="openai")
    ClipScore(name="c", model="hf-hub:a/b")
    with pytest.raises(ValidationError, match="smoothing: does nothing where kp and kd are 0"):
        Lagrangian(at_least={"a": 0.0}, kp=0.0, smoothing=0.9)
    with pytest.raises(ValidationError, match="final: does nothing with schedule: constant"):
        OptimConfig(schedule="constant", final=0.5)


@pytest.mark.parametrize("kind", ["weighted_sum", "standardised", "nash"])
def test_weights_that_are_all_0_are_refused(kind: str) -> None:
    objective = {"type": "length", "name": "brief", "target": 5}
    ppo = {"objectives": [objective], **variants(type=kind, weights={"brief": 0})}
    with pytest.raises(ValidationError, match=rf"{kind}.weights: all are 0, so every answer would score 0"):
        RunConfig.model_validate({"name": "r", "data": "d", "ppo": ppo})


class Unlike(Config):
    """A user's class that is no algorithm."""


class Empty(AlgorithmBase):
    """One that forgot what it does."""


class Own(AlgorithmBase):
    """A whole one, which compares answers and has a critic, and no `type` or `critics`."""

    has_critic: ClassVar[bool] = True
    needs_groups: ClassVar[bool] = True

    returns: bool = True

    def advantages(self, scored: Scored) -> tuple[Tensor, Tensor | None]:
        advantages_BT = scored.rewards_BTK.sum(-1) - (
            0.0 if scored.values_BTK is None else scored.values_BTK[..., 0]
        )
        return advantages_BT * scored.mask_BT, scored.rewards_BTK if self.returns else None


class Wide(ScalarizerBase):
    """One that gives a score an objective."""

    def combine(self, rewards: Rewards) -> Tensor:
        return rewards.mean_BK


class Hard(ScalarizerBase):
    """One without derivatives: 1 where all rewards are above 0."""

    def combine(self, rewards: Rewards) -> Tensor:
        return (rewards.mean_BK > 0).all(1).float()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"algorithm": f"{__name__}:Unlike"},
            r"algorithm: Unlike is not made from mmrlhf.rl.algorithms.base:Algorithm",
        ),
        ({"algorithm": f"{__name__}:Empty"}, r"algorithm: Empty has no method advantages\(scored\)"),
        (
            {"algorithm": f"{__name__}:Own"},
            "algorithm Own: compares the answers to a prompt, so answers_per_prompt",
        ),
    ],
)
def test_an_algorithm_of_the_users_that_does_not_fit(settings: dict[str, Any], message: str) -> None:
    row = {"name": "r", "data": "d", "reward": {}, "ppo": settings}
    with pytest.raises(UserError, match=message):
        parse_config(row, RunConfig, "run.yaml")


def prompts(folder: Path, **reference: Any) -> Path:
    records = [
        PreferenceRecord(
            id=f"r{i}",
            source="s",
            prompt=(Message("user", (Part(text=f"{i}?"),)),),
            reference=dict(reference),
        )
        for i in range(3)
    ]
    write_shards(records, folder)
    return folder


def checked(data: Path, **ppo: Any) -> list[str]:
    objectives = ppo.pop("objectives", [{"type": "length", "name": "brief", "target": 5}])
    row = {"name": "r", "data": str(data), "ppo": {"objectives": objectives, **ppo}}
    return check_data(RunConfig.model_validate(row), data)


def test_code_of_the_users_is_tried_out_before_training(tmp_path: Path) -> None:
    data = prompts(tmp_path / "d")
    assert checked(data, algorithm=Own(), answers_per_prompt=2) == []
    assert checked(data, **variants(type=f"{__name__}:Hard")) == []
    with pytest.raises(
        UserError, match=r"ppo.variants: balanced: tried out on made-up rewards: algorithm Own: gave None"
    ):
        checked(data, algorithm=Own(returns=False), answers_per_prompt=2)
    with pytest.raises(
        UserError, match=r"ppo.variants: v: tried out .*: scalarizer Wide: gave shape \(3, 1\) where one"
    ):
        checked(data, **variants(type=f"{__name__}:Wide"))


@pytest.mark.parametrize(
    ("reference", "objective", "message"),
    [
        (
            {},
            {"type": "exact_match"},
            "no prompt of the train split has reference.answer, so it would judge nothing; "
            "prompts have no reference: set key, or add references to the data",
        ),
        (
            {"answer": "x"},
            {"type": "exact_match", "key": "anwser"},
            "has reference.anwser, .* did you mean "
            r"reference.answer \(key\)\?",
        ),
        (
            {"label": "x"},
            {"type": "exact_match"},
            "has reference.answer, .* prompts have reference.label: set key",
        ),
        ({"answer": ["no", {}]}, {"type": "exact_match"}, ""),
        ({"answer": {}}, {"type": "exact_match"}, "has reference.answer"),
        ({"refuse": True}, {"type": "oracle", "objective": "safety"}, ""),
        (
            {"answer": "x"},
            {"type": "oracle", "objective": "helpfulness"},
            "has what tells helpfulness exactly",
        ),
        (
            {},
            {"type": "clip_score"},
            "has an image, so it would judge nothing; leave it out, or add such prompts",
        ),
    ],
)
def test_an_objective_that_applies_to_no_prompt_is_refused(
    tmp_path: Path, reference: dict[str, Any], objective: dict[str, Any], message: str
) -> None:
    data = prompts(tmp_path / "d", **reference)
    asked = [{"name": "right", **objective}, {"type": "length", "name": "brief", "target": 5}]
    if not message:
        assert checked(data, objectives=asked, prompts_from=["prompt"]) == []
        return
    with pytest.raises(
        UserError, match=rf"ppo.objectives: right \({objective['type']}\): .*{message}"
    ) as caught:
        checked(data, objectives=asked, prompts_from=["prompt"])
    assert len(re.findall("ppo.objectives", str(caught.value))) == 1


def test_a_flag_that_no_prompt_has_is_refused(tmp_path: Path) -> None:
    objectives = [{"type": "length", "name": name, "target": 5} for name in ("safety", "helpfulness")]
    data = prompts(tmp_path / "d", harmful=True)
    for flag in ("harmful", ""):
        assert checked(data, objectives=objectives, **variants(type="safety_gate", flag=flag)) == []
    with pytest.raises(
        UserError, match=r"ppo.variants: v: flag: no prompt of the train split has harmfull as true"
    ):
        checked(data, objectives=objectives, **variants(type="safety_gate", flag="harmfull"))
