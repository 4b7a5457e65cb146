"""A PPO run that is killed with SIGKILL in the middle of a step and resumed writes the metrics, byte for byte, of a run
that was left alone; with adapters and in full fine-tuning, with a checkpoint behind it and before the first one. One
that is asked to stop saves first, and says by its exit code whether what stands behind it may begin.

The killed run is a process of its own; the others go through the same command line within this one.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from mmrlhf.cli import _main
from mmrlhf.training.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6
CONFIG = {
    "name": "whole",
    "data": {
        "sources": [
            {"type": "demonstrations", "images": 12, "texts": 6},
            {"type": "flip_pairs", "count": 8},
            {"type": "text_pairs", "count": 9},
            {"type": "prompts", "images": 12, "texts": 6},
        ]
    },
    "sft": {"batch_size": 8, "max_answer_tokens": 12, "optim": {"lr": 1e-4}},
    "reward": {
        "objectives": ["helpfulness", "factuality"],
        "min_norm_records": 1,
        "batch_size": 8,
        "max_answer_tokens": 32,
    },
    "ppo": {
        "steps": STEPS,
        "batch_size": 6,
        "num_ppo_epochs": 2,
        "max_answer_tokens": 10,
        "kl_target": 0.1,  # the controller's coefficient is part of the state
        "optim": {"lr": 1e-3},
    },
    "engine": {"tensorboard": False},
}
METRICS = "ppo/balanced/metrics.jsonl"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run.yaml and the run `whole`, complete and never interrupted."""
    folder = tmp_path_factory.mktemp("kill")
    (folder / "run.yaml").write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "runs")}))
    return folder


@pytest.fixture(autouse=True)
def _one_thread():
    """As in the process that is killed: sums of another number of threads are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def send_in_a_step(number: signal.Signals, arguments: list[str], metrics: Path, step: int) -> tuple[int, str]:
    """Starts the program and sends it a signal, some way into the step after `step`, when that stands in the metrics;
    its exit code and what it said on stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "mmrlhf", *arguments], env=environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 120
        while not any(row["step"] >= step for row in read_metrics(metrics)):
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < deadline, "no step was done in time"
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("kind", "settings", "every"),
    [
        ("lora", ["--set", "ppo.model={lora: {r: 4}}"], 2),
        # before the first checkpoint; the twenty kills meet that too
        pytest.param("lora-early", ["--set", "ppo.model={lora: {r: 4}}"], 100, marks=pytest.mark.slow),
        pytest.param("full", [], 2, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_bytes(
    runs: Path, kind: str, settings: list[str], every: int
) -> None:
    settings = [*settings, "--set", f"engine.checkpoint_every={every}"]
    config, folder = str(runs / "run.yaml"), runs / "runs"
    base = "lora" if kind == "lora-early" else kind
    if not (folder / base / METRICS).exists():
        # the first has all its stages in one process: what they draw must not reach those behind them
        if (folder / "lora").exists() and base == "full":
            shutil.copytree(folder / "lora", folder / "full", ignore=shutil.ignore_patterns("ppo"))
        assert _main(["run", config, "--set", f"name={base}", *settings]) == 0
    expected = (folder / base / METRICS).read_text()
    assert [row["step"] for row in read_metrics(folder / base / METRICS)] == list(range(1, STEPS + 1))

    killed = folder / f"{kind}-killed"
    shutil.copytree(folder / base, killed, ignore=shutil.ignore_patterns("ppo"))
    again = ["run", config, "--set", f"name={killed.name}", *settings, "--resume"]
    assert send_in_a_step(signal.SIGKILL, again, killed / METRICS, 3)[0] == -signal.SIGKILL
    done = [row["step"] for row in read_metrics(killed / METRICS)]
    assert 3 <= max(done) < STEPS
    assert not (killed / "ppo/balanced/model").exists()
    checkpoints = sorted(p.name for p in (killed / "ppo/balanced/checkpoints").glob("step-*"))
    assert (checkpoints == []) == (every == 100)

    assert _main(again) == 0
    assert (killed / METRICS).read_text() == expected
    for name in ("model/model.safetensors", "model/config.json"):
        assert (killed / "ppo/balanced" / name).read_bytes() == (
            folder / base / "ppo/balanced" / name
        ).read_bytes()
    assert not list(killed.rglob("*.bin")) + list(killed.rglob("*.pt")) + list(killed.rglob("*.pkl"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_run_that_is_asked_to_stop_is_saved(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Behind either, `mmrlhf sft && mmrlhf reward` must not go on: the model isn't there. The codes are 128 and the
    signal's number, as a shell gives them."""
    row = {**CONFIG, "output_dir": str(tmp_path), "sft": {**CONFIG["sft"], "epochs": 50}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(row))
    folder = tmp_path / "whole" / "sft"
    found, said = send_in_a_step(number, ["sft", str(tmp_path / "run.yaml")], folder / "metrics.jsonl", 1)
    assert found == code, said
    assert "sft is saved at step" in said
    assert "--resume goes on" in said
    assert len(list((folder / "checkpoints").glob("step-*"))) == 1
    assert not (folder / "model").exists()
