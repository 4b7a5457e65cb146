"""Whole steps of every algorithm on the bundled model, with pictures and text mixed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from data_tools.build import DataConfig, build
from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, PpoConfig, PpoVariant
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers import Lagrangian, ScalarizerBase, Standardised, WeightedSum
from mmrlhf.training.checkpoint import latest_checkpoint
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.ppo import PpoStage

NORMS = {
    "brevity": {"image-text": (0.0, 1.0), "text": (0.0, 1.0)},
    "truth": {"image-text": (0.0, 1.0)},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "built"
    sources = [
        {"type": "prompts", "images": 24, "texts": 12, "splits": {"train": 1.0}},
        {"type": "demonstrations", "images": 12, "texts": 6, "splits": {"train": 1.0}},
    ]
    build(DataConfig.model_validate({"sources": sources}), folder)
    return str(folder)


def stage(
    data: str,
    folder: Path,
    lora: bool = True,
    scalarizer: ScalarizerBase | None = None,
    heads: bool = True,
    **settings: Any,
) -> PpoStage:
    config = PpoConfig.model_validate(
        {
            "steps": 2,
            "batch_size": 8,
            "micro_batch_size": 4,
            "max_answer_tokens": 12,
            "optim": {"lr": 1e-3},
            **settings,
        }
    )
    model = ModelConfig(lora=LoraSettings(r=2) if lora else None)
    torch.manual_seed(0)
    judge = RewardModel(load_vlm(ModelConfig()), RewardCard(list(NORMS), NORMS)).requires_grad_(False)
    torch.nn.init.normal_(judge.heads.weight, std=0.05)
    scalarizer = scalarizer or WeightedSum(weights={"brevity": 2.0, "truth": 1.0})
    return PpoStage(
        load_vlm(model, trainable=True),
        None if lora else load_vlm(ModelConfig()),
        Panel(judge if heads else None, config.objectives),
        config,
        PpoVariant(name="test", scalarizer=scalarizer),
        data,
        folder,
        0,
        make_accelerator(EngineConfig()),
    )


def run(made: PpoStage, folder: Path) -> list[dict[str, float]]:
    Engine(folder, EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ({"type": "ppo"}, {}),
        ({"type": "ppo", "critics": "per_objective"}, {"answers_per_prompt": 2}),
        ({"type": "grpo"}, {"answers_per_prompt": 4, "kl_in": "loss", "kl_estimator": "k3"}),
        ({"type": "rloo"}, {"answers_per_prompt": 2, "kl_estimator": "k2", "loss_over": "answers"}),
        ({"type": "reinforce_pp"}, {"dual_clip": 3.0, "cliprange_high": 0.28, "entropy_coef": 0.01}),
        ({"type": "reinforce_pp", "baseline": "group"}, {"answers_per_prompt": 2, "ptx_coef": 0.5}),
    ],
    ids=["ppo", "ppo-per-objective", "grpo", "rloo", "reinforce++", "reinforce++-baseline"],
)
def test_every_algorithm_moves_the_policy(
    data: str, tmp_path: Path, algorithm: dict[str, Any], settings: dict[str, Any]
) -> None:
    made = stage(data, tmp_path, algorithm=algorithm, **settings)
    assert (made.policy.value_head is None) == (algorithm["type"] != "ppo")
    rows = run(made, tmp_path)
    assert len(rows) == 2
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)  # adapters start as nothing
    assert abs(rows[1]["kl"]) > 1e-3
    names = set(rows[0])
    assert {
        "reward/brevity/text",
        "reward/truth/image-text",
        "length/text",
        "swap_gap/truth",
        "entropy",
    } <= names
    assert "reward/truth/text" not in names  # not judged on text
    assert ("loss/value" in names) == (algorithm["type"] == "ppo")
    assert ("alike" in names) == ("answers_per_prompt" in settings)
    assert ("loss/kl" in names) == (settings.get("kl_in") == "loss")
    assert ("loss/demonstrations" in names) == ("ptx_coef" in settings)


def test_full_fine_tuning_has_a_reference_of_its_own(data: str, tmp_path: Path) -> None:
    rows = run(stage(data, tmp_path, lora=False), tmp_path)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert abs(rows[1]["kl"]) > 1e-3


def test_critics_an_objective_agree_with_one_critic_before_they_learn(data: str, tmp_path: Path) -> None:
    """With values of 0 and gamma = lambda = 1 both advantages are the whitened score to come, KL and penalties
    included: 2/3 brevity + 1/3 truth on pictures, brevity alone on text."""
    found = []
    for critics in ("single", "per_objective"):
        made = stage(
            data,
            tmp_path / critics,
            algorithm={"type": "ppo", "critics": critics, "lam": 1.0},
            length_penalty=0.5,
        )
        torch.manual_seed(1)
        update = next(made.updates(0))
        order = sorted(
            (row.prompt.record.id, advantages.tolist())
            for batch in update.micro_batches
            for row, advantages in zip(batch.rows, batch.advantages_BT, strict=True)
        )
        found.append(order)
    assert [name for name, _ in found[0]] == [name for name, _ in found[1]]
    ours, theirs = (torch.tensor([values for _, values in order]) for order in found)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.std() > 0.3


def test_passes_end_early_once_the_policy_has_moved_too_far(data: str, tmp_path: Path) -> None:
    far = run(stage(data, tmp_path / "far", num_ppo_epochs=3, max_update_kl=1e-9), tmp_path / "far")
    # the first update starts at the policy that sampled; the second has moved and is the last
    assert [row["updates"] for row in far] == [2.0, 2.0]
    near = run(stage(data, tmp_path / "near", num_ppo_epochs=3, max_update_kl=1e9), tmp_path / "near")
    assert [row["updates"] for row in near] == [6.0, 6.0]


def test_multipliers_are_logged_and_saved(data: str, tmp_path: Path) -> None:
    """A bound that no answer can meet: the violation is the bound less the mean reward, and the multiplier grows. What
    it learns is the stage's, not the config's."""
    bound = Lagrangian(at_least={"truth": 4.0}, kp=0.0, ki=0.1)
    made = stage(data, tmp_path, scalarizer=bound)
    first, second = run(made, tmp_path)
    violations = [row["scalarizer/violation/truth"] for row in (first, second)]
    assert violations == [
        pytest.approx(4 - row["reward/truth/image-text"], abs=1e-4) for row in (first, second)
    ]
    assert first["scalarizer/multiplier/truth"] == pytest.approx(0.1 * violations[0])
    assert second["scalarizer/multiplier/truth"] == pytest.approx(0.1 * sum(violations))
    saved = latest_checkpoint(tmp_path / "checkpoints")
    assert saved is not None
    multiplier = second["scalarizer/multiplier/truth"]
    assert saved.stage["scalarizer"]["multipliers"] == {"truth": pytest.approx(multiplier)}
    assert bound.state_dict()["multipliers"] == {}


def test_groups_are_standardised_objective_by_objective(data: str, tmp_path: Path) -> None:
    """The scores of a group sum to 0, whatever its prompt."""
    settings = {"algorithm": {"type": "grpo"}, "answers_per_prompt": 4}
    rows = run(stage(data, tmp_path, scalarizer=Standardised(over="group"), **settings), tmp_path)
    # where four answers are worth nearly the same, float32 leaves little of their differences
    assert [row["score"] for row in rows] == [pytest.approx(0.0, abs=1e-3)] * 2
    assert all(row["alike"] < 1 for row in rows)


def test_answers_of_one_token(data: str, tmp_path: Path) -> None:
    rows = run(stage(data, tmp_path, max_answer_tokens=1), tmp_path)
    assert [row["length"] for row in rows] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": {"type": "grpo"}}, "answers_per_prompt must be 2 or more"),
        ({"kl_in": "loss"}, "the gradient of k1 has mean 0"),
        (
            {"algorithm": {"type": "ppo", "critics": "per_objective"}, "whiten_rewards": True},
            "whiten_rewards",
        ),
        ({"dual_clip": 0.5}, "greater than 1"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PpoConfig.model_validate(settings)
