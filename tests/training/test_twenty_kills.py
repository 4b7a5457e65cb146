"""One PPO run that is killed with SIGKILL at twenty moments and resumed each time: metrics, samples and weights are,
byte for byte, those of a run that was left alone.

The moments are drawn from a seed over the whole life of the program: while it starts and loads its models, in the
middle of steps, while a checkpoint is written, just when it has its name and older ones are deleted, and while the
final model is saved. What each of them hit is read from the files that the dead program left, and printed (`-s`).
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from test_kill import CONFIG, ROOT

from mmrlhf.cli import _main
from mmrlhf.training.metrics import read_metrics

STEPS, EVERY, KEEP = 24, 2, 2
Kind = Literal["start", "step", "update", "write", "named", "model"]
MOMENTS: dict[Kind, int] = {"start": 5, "step": 5, "update": 3, "write": 3, "named": 3, "model": 1}
PATIENCE = 240  # seconds


@dataclass(frozen=True)
class Moment:
    """When to kill: what to wait for once `done` steps are in the metrics, and how long, as a share, after that."""

    done: int
    kind: Kind
    share: float


def draw_moments(seed: int) -> list[Moment]:
    """Twenty moments in the order of the run; those of `start` come between the others."""
    rng = random.Random(seed)
    kinds: list[Kind] = [kind for kind, count in MOMENTS.items() for _ in range(count)]
    found = []
    for kind in kinds:
        done = rng.randrange(STEPS - EVERY)  # one checkpoint is to come, also where a kill went too far
        found.append(Moment(STEPS if kind == "model" else done, kind, rng.random()))
    return sorted(found, key=lambda moment: moment.done)


@dataclass
class Life:
    """One start of the program in the folder of its stage."""

    folder: Path
    process: subprocess.Popen[bytes]
    said: Path  # its stderr
    born: float  # of this process, by the clock of files
    before: int | None  # the metrics file that was there before; training begins by writing it anew

    def trains(self) -> bool:
        """Whether the loop has begun."""
        return inode(self.folder / "metrics.jsonl") not in (None, self.before)

    def done(self) -> int:
        """Steps in the metrics of a run that trains; -1 before."""
        return len(read_metrics(self.folder / "metrics.jsonl")) if self.trains() else -1

    def updates(self) -> bool:
        """Whether the rollout of the step at work is done: its samples are written between the two."""
        return self.made(self.folder / f"samples/step-{self.done() + 1:06d}.html")

    def made(self, path: Path) -> bool:
        """Whether a file is there, and is of this life."""
        return path.exists() and path.stat().st_mtime > self.born

    def wait(self, what: Callable[[], bool], pause: float = 0.01) -> None:
        """Polls until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            self.check_alive()
            assert time.monotonic() < deadline, "nothing came in time"
            time.sleep(pause)

    def check_alive(self) -> None:
        """Fails with what the program said, where it has ended by itself."""
        assert self.process.poll() is None, self.said.read_text()[-2000:]

    def end(self) -> None:
        """Lets it come to its end, which must be a good one."""
        assert self.process.wait(PATIENCE) == 0, self.said.read_text()[-2000:]

    def phase(self) -> str:
        """What the program was at when it was killed, as its files tell."""
        if not self.trains():
            return "starting"
        checkpoints = self.folder / "checkpoints"
        if any(self.made(path) for path in checkpoints.glob(".*.partial")):
            return "writing a checkpoint"
        steps = sorted(checkpoints.glob("step-*"))
        if len(steps) > KEEP and self.made(steps[-1]):
            return "deleting a checkpoint"
        if (self.folder / ".model.partial").exists():
            return "saving the model"
        return (
            "updating" if self.updates() else "rolling out" if self.done() < STEPS else "after the last step"
        )


def inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def start(config: Path, name: str) -> Life:
    """Starts the program on its PPO stage."""
    folder = config.parent / "runs" / name / "ppo/balanced"
    before = inode(folder / "metrics.jsonl")
    if before is not None:
        # held open under another name, so that its number isn't given to the file that takes its place
        (folder / ".before").unlink(missing_ok=True)
        os.link(folder / "metrics.jsonl", folder / ".before")
    command = [sys.executable, "-m", "mmrlhf", "ppo", str(config), "--set", f"name={name}", "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    said = config.with_name(f"{name}.txt")
    with said.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    return Life(folder, process, said, time.time(), before)


def die(life: Life, moment: Moment, start_seconds: float, step_seconds: float) -> float:
    """Waits for the moment and kills; the seconds until training began, as far as is known now."""
    checkpoints = life.folder / "checkpoints"
    try:
        if moment.kind == "start":
            until = life.born + moment.share * start_seconds
            life.wait(lambda: life.trains() or time.time() > until)
        else:
            life.wait(life.trains)
            start_seconds = time.time() - life.born
            life.wait(lambda: life.done() >= moment.done)
        name = f"step-{(life.done() // EVERY + 1) * EVERY:06d}"  # the next checkpoint
        if moment.kind == "step":
            time.sleep(moment.share * step_seconds)
        elif moment.kind == "update":
            life.wait(life.updates)
            time.sleep(moment.share * step_seconds / 4)
        elif moment.kind == "write":
            life.wait((checkpoints / f".{name}.partial").exists, 0.0005)
            time.sleep(moment.share * 0.01)
        elif moment.kind == "named":
            life.wait((checkpoints / name).exists, 0.0005)
            time.sleep(moment.share * 0.002)
        elif moment.kind == "model":
            life.wait((life.folder / ".model.partial").exists, 0.0005)
            time.sleep(moment.share * 0.02)
        life.check_alive()
        life.process.send_signal(signal.SIGKILL)
        assert life.process.wait(60) == -signal.SIGKILL
    finally:
        life.process.kill()
        life.process.wait()
    return start_seconds


def to_its_end(life: Life) -> tuple[float, float]:
    """Lets the program end; the seconds until it trained, and those of a step."""
    try:
        life.wait(life.trains)
        seconds = time.time() - life.born
        life.end()
    finally:
        life.process.kill()
        life.process.wait()
    rows = read_metrics(life.folder / "timings.jsonl")
    return seconds, sum(row["seconds"] for row in rows) / len(rows)


def results(folder: Path) -> dict[str, bytes]:
    """Every file of the stage whose bytes the seed decides, by name. An adapter tells the folder of its base model."""
    kept = ("metrics.jsonl", "samples/*", "model/**/*", "checkpoints/**/*")
    files = {path for pattern in kept for path in folder.glob(pattern) if path.is_file()}
    run = str(folder.parents[1]).encode()
    return {str(path.relative_to(folder)): path.read_bytes().replace(run, b"RUN") for path in sorted(files)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data, SFT and reward model are there, in two copies: `whole` and `killed`."""
    folder = tmp_path_factory.mktemp("kills")
    ppo: dict[str, Any] = {
        **CONFIG["ppo"],  # type: ignore[dict-item]
        "steps": STEPS,
        "model": {"lora": {"r": 16}},
        "sample_every": 1,
    }
    engine = {"tensorboard": False, "checkpoint_every": EVERY, "keep_checkpoints": KEEP}
    row = {**CONFIG, "ppo": ppo, "engine": engine, "output_dir": str(folder / "runs")}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(row))
    for name in ("whole", "killed"):
        for stage in ("sft", "reward"):
            assert _main([stage, str(path), "--set", f"name={name}"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_twenty_times_is_the_run_that_was_left_alone(config: Path) -> None:
    whole = start(config, "whole")
    start_seconds, step_seconds = to_its_end(whole)
    moments = draw_moments(seed=0)
    assert len(moments) == 20
    phases: list[str] = []
    for number, moment in enumerate(moments, 1):
        life = start(config, "killed")
        start_seconds = die(life, moment, start_seconds, step_seconds)
        phases.append(life.phase())
        print(f"kill {number:2d} ({moment.kind}): {phases[-1]}, {max(life.done(), 0)} steps done")
    print(dict(Counter(phases)))
    assert sum(phase != "starting" for phase in phases) >= 10
    assert len(set(phases)) >= 4
    last = start(config, "killed")
    to_its_end(last)

    expected, found = results(whole.folder), results(last.folder)
    assert [row["step"] for row in read_metrics(last.folder / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name]] == []
