"""ms-swift's GRPO (its Hugging Face backend) in the comparison; runs in ms-swift's environment.

usage: swift_grpo.py JOB
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pace import Pace, reward
from swift import RLHFArguments, rlhf_main
from swift.rewards import ORM, orms
from swift_settings import common_settings, prepare


def main() -> None:
    """Trains as many steps as the driver asks for."""
    pace = Pace()
    task, folder = pace.job, Path(pace.job["folder"])
    size, answers = task["size"], task["answers"]
    data = folder / "swift.jsonl"
    with data.open("w") as file:
        for line in (folder / "prompts.jsonl").open():
            row = json.loads(line)
            text = "<image>" * len(row["images"]) + row["prompt"]
            file.write(
                json.dumps({"messages": [{"role": "user", "content": text}], "images": row["images"]}) + "\n"
            )

    class Rule(ORM):
        """The reward of all trainers."""

        def __call__(self, completions: list[str], **kwargs: Any) -> list[float]:
            """A score for each text."""
            pace.work["rule"] += len(completions)
            return [reward(text) for text in completions]

    orms["rule"] = Rule
    prepare(pace)
    rlhf_main(
        RLHFArguments(
            rlhf_type="grpo",
            reward_funcs=["rule"],
            num_generations=answers,
            num_iterations=1,
            steps_per_generation=1,
            max_completion_length=size["answer"],
            per_device_train_batch_size=size["prompts"] * answers,
            temperature=1.0,
            top_k=-1,
            top_p=1.0,
            beta=0.04,
            epsilon=0.2,
            use_vllm=False,
            **common_settings(task, data),
        )
    )
    pace.close()


if __name__ == "__main__":
    main()
