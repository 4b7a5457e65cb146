"""Two processes give the numbers of one, with whole weights on each and with weights that are split (FSDP2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from safetensors.torch import load_file

from data_tools.errors import UserError
from data_tools.schema import Comparison, PreferenceRecord, Ranking, Rating, Response, user
from data_tools.shards import write_shards
from mmrlhf.cli import _main
from mmrlhf.config import EngineConfig
from mmrlhf.models.probe import picture
from mmrlhf.training.engine import make_accelerator
from mmrlhf.training.processes import WORLD_SIZES, _buckets, check_launched

ROOT = Path(__file__).resolve().parents[2]
LORA = {"lora": {"r": 4}}
# SFT: a batch of two rows, so that a process often has no image while the tower trains; PPO: mini-batches of three
# prompts over two processes, so that one of them has less to do than the other, or nothing
CONFIG: dict[str, Any] = {
    "data": {
        "sources": [
            {"type": "demonstrations", "images": 4, "texts": 8},
            {"type": "flip_pairs", "count": 6},
            {"type": "text_pairs", "count": 7},
            {"type": "prompts", "images": 8, "texts": 7},
        ]
    },
    "sft": {
        "batch_size": 2,
        "max_answer_tokens": 12,
        "optim": {"lr": 1e-5, "weight_decay": 0.1},
        "model": {"freeze_vision_tower": False, "freeze_projector": False},
    },
    "reward": {
        "objectives": ["helpfulness", "factuality"],
        "min_norm_records": 1,
        "batch_size": 6,
        "max_answer_tokens": 32,
        "grounding": {
            "flips": 1.0,
            "image_conditional": {"weight": 0.5},
            "reweight": {"weight": 1.0},
            "length": 0.1,
        },
        "model": LORA,
        "optim": {"lr": 1e-4},
    },
    "ppo": {
        "variants": [{"name": "a", "scalarizer": {"type": "preference_conditioned"}}],
        "algorithm": {"type": "ppo", "critics": "per_objective"},
        "steps": 3,
        "batch_size": 6,
        "num_mini_batches": 3,
        "micro_batch_size": 2,
        "num_ppo_epochs": 1,
        "answers_per_prompt": 2,
        "ptx_coef": 0.1,
        "kl_target": 0.1,
        "max_update_kl": 1.0,
        "max_answer_tokens": 8,
        "model": LORA,
        "optim": {"lr": 1e-4},
    },
    "engine": {"tensorboard": False, "checkpoint_every": 2},
}
STAGES = ("sft", "reward", "ppo/a")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the run `one`, made by one process."""
    made = tmp_path_factory.mktemp("processes")
    (made / "run.yaml").write_text(yaml.safe_dump({**CONFIG, "name": "one", "output_dir": str(made)}))
    assert _main(["run", str(made / "run.yaml")]) == 0
    return made


def by_two(folder: Path, *arguments: str) -> str:
    """Runs the command in two processes, on CPUs without a word to accelerate; what they said."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }
    environment.pop("ACCELERATE_USE_CPU", None)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "mmrlhf", "run", str(folder / "run.yaml"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rows(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def assert_same(one: Path, other: Path) -> None:
    for stage in STAGES:
        assert len(rows(one / stage)) == len(rows(other / stage)) > 1
        for ours, theirs in zip(rows(one / stage), rows(other / stage), strict=True):
            assert ours.keys() == theirs.keys()
            for name in ours.keys() - {"features/kept_mb"}:  # of each process its own
                # an untrained head's rewards for two answers may be equal but for rounding
                loose = 0.5 if name.startswith(("accuracy/", "blind/accuracy")) else 1e-3
                assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=loose), (stage, name)
        ours, theirs = (load_file(run / stage / "model/model.safetensors") for run in (one, other))
        assert ours.keys() == theirs.keys()
        apart = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in ours])
        assert apart.mean() < 1e-6


@pytest.mark.slow
def test_two_processes_with_whole_weights(folder: Path) -> None:
    """Hazard 2: a process whose micro-batch holds no image leaves the others waiting, while the tower trains."""
    by_two(folder, "--set", "name=two")
    assert_same(folder / "one", folder / "two")


def test_two_processes_with_weights_split_over_them(folder: Path) -> None:
    said = by_two(folder, "--set", "name=split", "--set", "engine.shard=true")
    assert "Warning" not in said
    assert_same(folder / "one", folder / "split")
    # a checkpoint is whole: one process reads what two have written
    name = "ppo/a/checkpoints/step-000003/optimizer.safetensors"
    ours, theirs = load_file(folder / "one" / name), load_file(folder / "split" / name)
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_has_begun(folder: Path) -> None:
    """From its checkpoint of step 2, with weights and optimizer state split over them."""
    shutil.copytree(folder / "one", folder / "resumed")
    stage = folder / "resumed" / "ppo" / "a"
    shutil.rmtree(stage / "model")
    shutil.rmtree(stage / "checkpoints" / "step-000003")
    state = json.loads((stage / "stage.json").read_text())
    (stage / "stage.json").write_text(json.dumps(state | {"done": False}))
    by_two(folder, "--set", "name=resumed", "--set", "engine.shard=true", "--resume")
    assert_same(folder / "one", folder / "resumed")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_processes_that_would_not_work_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    alone = cast(Any, SimpleNamespace(num_processes=1))
    for known in WORLD_SIZES:
        monkeypatch.delenv(known, raising=False)
    check_launched(alone)
    monkeypatch.setenv(name, "1")
    check_launched(alone)
    monkeypatch.setenv(name, "2")
    check_launched(cast(Any, SimpleNamespace(num_processes=2)))
    with pytest.raises(UserError, match=f"^{name} says that a launcher started 2 processes, but 1 work"):
        check_launched(alone)


def test_a_launcher_that_leaves_out_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a batch script does that exports WORLD_SIZE by itself."""
    for known in (*WORLD_SIZES, "MASTER_ADDR", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(known, raising=False)
    for known, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "1"), ("MASTER_PORT", "29501")):
        monkeypatch.setenv(known, value)
    # accelerate sets these itself
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match=r"the launcher's processes can't be joined: .*MASTER_ADDR"):
        make_accelerator(EngineConfig())


def test_gradients_are_summed_in_buckets_of_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.training.processes.BUCKET", 10)
    sizes = [4, 7, 3, 30, 2]
    grads = [torch.zeros(n, dtype=torch.bfloat16 if n == 7 else torch.float32) for n in sizes]
    assert [[len(g) for g in bucket] for bucket in _buckets(grads)] == [[7], [4, 3], [30], [2]]


def labelled() -> list[PreferenceRecord]:
    """Twelve records: comparisons and rankings, most of them of text, and two that are rated."""
    answers = tuple(map(Response, ("Yes.", "No, it isn't.", "I can't tell.")))
    records = []
    for number in range(12):
        shown = number % 4 == 0
        records.append(
            PreferenceRecord(
                id=f"r{number}",
                source="mixed",
                prompt=(user(*([0] if shown else []), f"Is it {number}?"),),
                images=(picture((40 + number, 40)),) if shown else (),
                responses=answers,
                comparisons=(Comparison("truth", number % 2, 2),) if number % 3 else (),
                rankings=() if number % 3 else (Ranking("truth", ((1,), (0, 2))),),
                ratings=(Rating("style", 0, 3, 0, 3), Rating("style", 1, 1, 0, 3))
                if number in (3, 6)
                else (),
            )
        )
    return records


@pytest.mark.slow
def test_labels_that_are_rare_move_nothing_while_they_are_away(tmp_path: Path) -> None:
    """Ratings, an ensemble and rankings, in updates of two records, most of which hold no rating and no image: weights
    that are split over processes would get gradients of 0 there, and move by what AdamW remembers."""
    write_shards(labelled(), tmp_path / "data")
    reward = {
        "objectives": ["truth", "style"],
        "members": 2,
        "epochs": 2.0,
        "batch_size": 2,
        "grounding": {"reweight": {"weight": 1.0}, "length": 0.1},
        "model": LORA,
        "optim": {"lr": 1e-4},
    }
    row = {"name": "one", "output_dir": str(tmp_path), "data": str(tmp_path / "data"), "reward": reward}
    row["engine"] = CONFIG["engine"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(row))
    assert _main(["run", str(tmp_path / "run.yaml")]) == 0
    by_two(tmp_path, "--set", "name=split", "--set", "engine.shard=true")
    one, split = (rows(tmp_path / name / "reward") for name in ("one", "split"))
    assert len(one) == len(split) == 12
    assert sum("loss_rating/style" in step for step in one) in (2, 3, 4)
    for ours, theirs in zip(one, split, strict=True):
        assert ours.keys() == theirs.keys()
        for name in (
            name for name in ours if name.partition("/")[0] in ("loss", "loss_ranking", "loss_rating")
        ):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-3, abs=1e-3), name
    step = "reward/checkpoints/step-000012/weights.safetensors"
    ours, theirs = (load_file(tmp_path / name / step) for name in ("one", "split"))
    loose = [name for name in ours if "rating_scale" in name or name.startswith("branch.")]
    assert len(loose) == 6
    for name in loose:
        torch.testing.assert_close(theirs[name], ours[name], atol=2e-4, rtol=0)
