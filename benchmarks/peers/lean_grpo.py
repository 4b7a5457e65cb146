"""The limit with a shared prefix in the comparison: `benchmarks/lean.py` in a process of its own.

usage: lean_grpo.py JOB. Its step scores with a reward model; the seconds of that are told, so that they can be left
out.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import job
import lean
from pace import Pace


def main() -> None:
    """As many steps as the driver asks for."""
    pace = Pace()
    task = pace.job
    job.resize(**task["size"])
    records = job.make_records(task["records"])
    heads = lean.make_heads(job.WIDTH, 3)
    least = lean.Lean(
        Path(task["folder"]) / "model", task["lora"], heads, answers=task["answers"], shared=task["shared"]
    )
    pace.count_work()
    told = {"trained": sum(weight.numel() for weight in least.weights)}
    step = 0
    while pace.turn(**told):
        parts = least.step(records[step * job.PROMPTS : (step + 1) * job.PROMPTS])
        step, told = step + 1, {"parts": parts}
    pace.close()


if __name__ == "__main__":
    main()
