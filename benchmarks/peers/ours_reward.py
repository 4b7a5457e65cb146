"""Our reward model's step in the comparison: the engine's own, from the records on disk to the line of metrics.

usage: ours_reward.py JOB. With `heads` it has so many objectives and ensemble members as told, in place of one head;
with `kept` it goes over the same few pictures again and again, so that their features are kept from the warm-up on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import job
from lean import LR
from pace import Pace

from mmrlhf.config import EngineConfig, LoraSettings, ModelConfig, RewardConfig
from mmrlhf.models.load import load_vlm
from mmrlhf.models.vision_cache import keep_features, vision_cache
from mmrlhf.training.engine import Engine, Update, make_accelerator
from mmrlhf.training.reward import RewardStage

S = TypeVar("S", bound=RewardStage)
SAVE_EVERY = 50  # steps between checkpoints, the engine's default


class Paced(RewardStage):
    """The stage, which waits for its turn in front of each step."""

    pace: Pace
    rare: float = 0.0  # seconds of this step that most steps don't spend

    def updates(self, step: int) -> Iterator[Update]:
        """As before, with a turn in front."""
        told = (
            {} if step else {"trained": sum(p.numel() for p in self.module.parameters() if p.requires_grad)}
        )
        self.pace.turn(rare=self.rare, **told)
        self.rare = 0.0
        yield from super().updates(step)


def make_stage(task: dict[str, Any], data: Path, kind: type[S]) -> S:
    """The stage as a run makes it, on the job's model."""
    engine = EngineConfig()
    accelerator = make_accelerator(engine)
    adapters = LoraSettings(r=job.RANK, alpha=job.ALPHA) if task["lora"] else None
    model = ModelConfig(path=str(Path(task["folder"]) / "model"), lora=adapters)
    vlm = load_vlm(model, accelerator.device, trainable=True)
    cache = vision_cache(engine, alone=task["kept"])
    assert cache is not None
    assert keep_features(vlm, cache) == ""
    config = RewardConfig.model_validate(
        {
            "objectives": ["helpfulness"],
            "epochs": task["steps"] + 1 if task["kept"] else 1.0,
            "batch_size": job.PROMPTS,
            "micro_batch_size": 2 * job.PROMPTS,
            "max_prompt_tokens": 4096,
            "max_answer_tokens": job.ANSWER,
            "center": 0.0,
            "optim": {"lr": LR, "schedule": "constant", "warmup": 0.0},
            **task["heads"],
        }
    )
    return kind(vlm, config, str(data), 0, accelerator)


def main() -> None:
    """Trains as many steps as the driver asks for, and one behind them that nobody times."""
    pace = Pace()
    task = pace.job
    job.resize(**task["size"])
    folder = Path(task["folder"])
    data = folder / f"data-{os.getpid()}"
    count = job.PROMPTS * (1 if task["kept"] else task["steps"] + 1)
    job.write_data(data, job.make_records(count, pairs=True))
    stage = make_stage(task, data, Paced)
    stage.pace = pace
    pace.count_work()
    saving: list[float] = []
    save = Engine._save

    def timed(*args: Any) -> None:
        began = time.perf_counter()
        save(*args)
        saving.append(time.perf_counter() - began)
        stage.rare += saving[-1]

    Engine._save = timed  # type: ignore[method-assign]
    Engine(folder / f"ours-{os.getpid()}", EngineConfig(), 0, stage.accelerator).train(stage)
    pace.close(rare_share=sum(saving) / len(saving) / SAVE_EVERY)


if __name__ == "__main__":
    main()
