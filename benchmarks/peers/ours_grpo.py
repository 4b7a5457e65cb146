"""Our GRPO step in the comparison: the engine's own, from the records on disk to the line of metrics.

usage: ours_grpo.py JOB. With `judge` the answers are scored by a reward model on a second backbone, as in a real run;
without, `Panel.score` gives way to the rule that the peers score with, and the reward model is loaded but never runs.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import job
import torch
from pace import Pace, reward
from ppo import BetweenSteps, grpo, our_stage, rare_share, rare_work

from mmrlhf.config import EngineConfig
from mmrlhf.rewards.panel import Panel
from mmrlhf.training.engine import Engine
from mmrlhf.types import Rewards


class Paced(BetweenSteps):
    """The stage, which waits for its turn in front of each step."""

    pace: Pace

    def pause(self, step: int) -> None:
        """One turn."""
        told = (
            {} if step else {"trained": sum(p.numel() for p in self.module.parameters() if p.requires_grad)}
        )
        self.pace.turn(rare=self.rare, **told)
        self.rare = 0.0


def by_rule(
    panel: Panel, pace: Pace, records: Sequence[Any], texts: Sequence[str], *_: Any, **__: Any
) -> Any:
    """The peers' reward, for each objective alike; in the place of `Panel.score`."""
    pace.work["rule"] += len(texts)
    names = tuple(panel.objectives)
    scores_BK = torch.tensor([reward(text) for text in texts]).unsqueeze(1).expand(-1, len(names))
    return Rewards(
        names, scores_BK, torch.ones_like(scores_BK, dtype=torch.bool), torch.zeros_like(scores_BK)
    )


def main() -> None:
    """Trains as many steps as the driver asks for, and one behind them that nobody times."""
    pace = Pace()
    task = pace.job
    job.resize(**task["size"])
    if not task["judge"]:
        assert callable(Panel.score)
        Panel.score = functools.partialmethod(by_rule, pace)
    folder = Path(task["folder"])
    run = folder / f"ours-{os.getpid()}"
    settings = {**grpo(task["answers"]), "steps": task["steps"] + 1}
    stage = our_stage(folder / "model", folder / "data", run, task["lora"], Paced, **settings)
    stage.pace = pace
    pace.count_work()
    rare: dict[str, list[float]] = {}
    with rare_work(stage, rare):
        Engine(run, EngineConfig(), 0, stage.accelerator).train(stage)
    if not task["judge"]:
        # the reward under swapped pictures is asked of the reward model, which a run with a rule doesn't have
        del rare["swap_gap"]
    pace.close(rare_share=rare_share(rare))


if __name__ == "__main__":
    main()
