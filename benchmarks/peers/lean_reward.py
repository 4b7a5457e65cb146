"""The limit with a shared prefix for pairs in the comparison: `benchmarks/lean_pairs.py` in a process of its own.

usage: lean_reward.py JOB
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import job
from lean_pairs import LeanPairs
from pace import Pace


def main() -> None:
    """As many steps as the driver asks for."""
    pace = Pace()
    task = pace.job
    job.resize(**task["size"])
    records = job.make_records(task["records"], pairs=True)
    least = LeanPairs(Path(task["folder"]) / "model", task["lora"], task["shared"])
    pace.count_work()
    told = {"trained": sum(weight.numel() for weight in least.weights)}
    step = 0
    while pace.turn(**told):
        least.step(records[step * job.PROMPTS : (step + 1) * job.PROMPTS])
        step, told = step + 1, {}
    pace.close()


if __name__ == "__main__":
    main()
