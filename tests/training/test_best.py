"""The best checkpoint by a metric: its mean over the steps since the checkpoint before."""

import os
import signal
from pathlib import Path

import pytest
from accelerate import Accelerator
from test_engine import Toy, weights

from data_tools.errors import Stopped
from mmrlhf.config import EngineConfig
from mmrlhf.training.best import Best
from mmrlhf.training.checkpoint import latest_checkpoint, weights_at
from mmrlhf.training.engine import Engine


def test_the_mean_between_checkpoints_decides() -> None:
    best = Best("score")
    found = []
    # means 2, 1.5, 2.5 and 2.5: a tie goes to the earlier one
    for step, scores in ((2, (1.0, 3.0)), (4, (3.0, 0.0)), (6, (2.0, 3.0)), (7, (2.5,))):
        for score in scores:
            best.add({"score": score, "loss": 9.0})
        best.checkpoint(step)
        found.append(best.step)
    assert found == [2, 2, 6, 6]
    assert best.state_dict() == {"by": "score", "step": 6, "value": 2.5, "sum": 0.0, "count": 0}


def test_a_minus_in_front_and_a_metric_that_is_not_always_there() -> None:
    best = Best("-gap")
    for step, metrics in enumerate(({"gap": 3.0}, {}, {"gap": 1.0}, {"gap": float("nan")}, {"gap": 2.0}), 1):
        best.add(metrics)
        best.checkpoint(step)
    assert best.step == 3


def test_a_stop_between_two_checkpoints_changes_nothing(tmp_path: Path) -> None:
    """A run that is asked to stop saves at once; the mean goes on where it was."""
    (tmp_path / "step-000002").mkdir()
    best = Best("score")
    best.add({"score": 2.0})
    best.checkpoint(2)
    best.add({"score": 5.0})
    again = Best("score")
    again.load_state_dict(best.state_dict(), tmp_path)
    again.add({"score": 1.0})
    again.checkpoint(4)
    assert again.state_dict() == {"by": "score", "step": 4, "value": 3.0, "sum": 0.0, "count": 0}


def test_a_best_checkpoint_that_is_gone_is_none(tmp_path: Path) -> None:
    best = Best("score")
    best.load_state_dict({"step": 50, "value": 9.0, "sum": 0.0, "count": 0}, tmp_path)
    assert best.step is None


def test_another_metric_chooses_among_the_checkpoints_that_are_there(tmp_path: Path) -> None:
    """Of checkpoints 2, 4 and 6 the one of 2 is gone: losses 1, 3 and 2 in the mean, so 6 is the least of the rest."""
    for step in (4, 6):
        (tmp_path / f"step-{step:06d}").mkdir()
    best = Best("-loss")
    losses = (1.0, 1.0, 2.0, 4.0, 3.0, 1.0, 9.0)
    best.replay([{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)], tmp_path, 2)
    # step 7 belongs to the stretch behind checkpoint 8
    assert best.state_dict() == {"by": "-loss", "step": 6, "value": -2.0, "sum": 9.0, "count": 1}


def test_a_metric_that_no_step_had_loses_no_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Toy()
    stage.best_by = "score"
    config = EngineConfig(checkpoint_every=2, tensorboard=False, mixed_precision="no")
    engine = Engine(tmp_path, config, 0, Accelerator(cpu=True, mixed_precision="no"))
    engine.train(stage)
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert (newest.step, newest.best["step"]) == (6, None)
    assert "no step had the metric score, so best_by chooses nothing" in capsys.readouterr().err


def test_a_run_goes_on_with_another_metric(tmp_path: Path) -> None:
    """It is asked to stop behind step 5; `drawn` rises by 4 a step, so step 4 is the best by it and 2 by -drawn."""

    def config(keep: int) -> EngineConfig:
        return EngineConfig(
            checkpoint_every=2, keep_checkpoints=keep, tensorboard=False, mixed_precision="no"
        )

    accelerator = Accelerator(cpu=True, mixed_precision="no")
    stage = Toy()
    stage.best_by = "drawn"
    stage.at_step[4] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        Engine(tmp_path, config(5), 0, accelerator).train(stage)
    again = Toy()
    again.best_by = "-drawn"
    engine = Engine(tmp_path, config(5), 0, accelerator)
    engine.train(again)
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    assert (newest.step, newest.best["step"]) == (6, 2)
    assert (
        engine.weights(again)["weight"].tolist() == weights_at(tmp_path / "checkpoints", 2)["weight"].tolist()
    )


def test_the_best_checkpoint_is_kept_and_becomes_the_model(tmp_path: Path) -> None:
    stage = Toy()
    stage.best_by = "-drawn"  # rises with each step, so the first checkpoint is the best
    config = EngineConfig(checkpoint_every=2, keep_checkpoints=1, tensorboard=False, mixed_precision="no")
    engine = Engine(tmp_path, config, 0, Accelerator(cpu=True, mixed_precision="no"))
    engine.train(stage)
    checkpoints = tmp_path / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-000002", "step-000006"]
    chosen = engine.weights(stage)
    assert chosen["weight"].tolist() == weights_at(checkpoints, 2)["weight"].tolist()
    assert [*chosen["weight"].flatten().tolist(), *chosen["bias"].tolist()] != weights(stage)
    newest = latest_checkpoint(checkpoints)
    assert newest is not None
    assert (newest.step, newest.best["step"]) == (6, 2)
