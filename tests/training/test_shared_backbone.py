"""PPO steps with the reward model in the policy's own model, and with one beside it: the same numbers."""

import json
from pathlib import Path

import pytest
import torch

from data_tools.build import DataConfig, build
from mmrlhf.cli import _main
from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, PpoConfig, PpoVariant
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import RewardCard, RewardModel, load_reward_model
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers import WeightedSum
from mmrlhf.rewards.shared import load_within
from mmrlhf.training.checkpoint import latest_checkpoint
from mmrlhf.training.engine import Engine, make_accelerator
from mmrlhf.training.ppo import PpoStage

PROMPTS = {"type": "prompts", "images": 8, "texts": 4, "splits": {"train": 1.0}}
LORA = LoraSettings(r=2)


def saved_judge(folder: Path) -> Path:
    torch.manual_seed(3)
    vlm = load_vlm(ModelConfig(lora=LORA), trainable=True)
    for name, value in vlm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    judge = RewardModel(vlm, RewardCard(["truth"], {"truth": {"image-text": (0.0, 1.0), "text": (0.0, 1.0)}}))
    torch.nn.init.normal_(judge.heads.weight, std=0.05)
    judge.save(folder)
    return folder


def test_ppo_steps_are_the_same(tmp_path: Path) -> None:
    build(DataConfig.model_validate({"sources": [PROMPTS]}), tmp_path / "data")
    path = saved_judge(tmp_path / "judge")
    found, weights = [], []
    for name in ("apart", "within"):
        torch.manual_seed(0)
        vlm = load_vlm(ModelConfig(lora=LORA), trainable=True)
        made = PpoStage(
            vlm,
            None,
            Panel(load_reward_model(path) if name == "apart" else load_within(path, vlm)),
            PpoConfig.model_validate(
                {"steps": 3, "batch_size": 4, "max_answer_tokens": 8, "optim": {"lr": 1e-3}}
            ),
            PpoVariant(name="test", scalarizer=WeightedSum()),
            str(tmp_path / "data"),
            tmp_path / name,
            0,
            make_accelerator(EngineConfig()),
        )
        Engine(tmp_path / name, EngineConfig(tensorboard=False), 0, made.accelerator).train(made)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line) for line in lines])
        checkpoint = latest_checkpoint(tmp_path / name / "checkpoints")
        assert checkpoint is not None
        weights.append(checkpoint.weights)
    for apart, within in zip(*found, strict=True):
        assert within == pytest.approx(apart, rel=1e-3, abs=1e-4)
    assert found[0][2]["kl"] != 0.0
    assert weights[0].keys() == weights[1].keys()
    assert not [name for name in weights[1] if "reward" in name]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-2, atol=1e-4)


def run(folder: Path, *overrides: str) -> None:
    pairs = {"type": "flip_pairs", "count": 4, "splits": {"train": 1.0}}
    config = {
        "name": "r",
        "output_dir": str(folder),
        "data": {"sources": [pairs, PROMPTS]},
        "model": {"lora": {"r": 2}},
        "reward": {
            "objectives": ["factuality"],
            "min_norm_records": 1,
            "batch_size": 4,
            "max_answer_tokens": 32,
        },
        "ppo": {"steps": 1, "batch_size": 4, "max_answer_tokens": 6},
        "engine": {"tensorboard": False, "mixed_precision": "no"},
    }
    (folder / "run.yaml").write_text(json.dumps(config))
    more = [part for override in overrides for part in ("--set", override)]
    assert _main(["run", str(folder / "run.yaml"), *more]) == 0


def test_a_run_shares_the_base_by_itself_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    said = " ".join("".join(capfd.readouterr()).split())
    assert "reward model: is an adapter in the policy's model, on the base that both share" in said
    files = sorted(p.name for p in (tmp_path / "r/ppo/balanced/model/adapter").iterdir())
    assert files == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


def test_a_run_says_why_it_does_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "ppo.model={dtype: bfloat16}")
    said = " ".join("".join(capfd.readouterr()).split())
    assert "reward model: is loaded beside the policy, since it was trained on other weights" in said
