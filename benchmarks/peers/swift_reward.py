"""ms-swift's reward model (its Hugging Face backend) in the comparison; runs in ms-swift's environment.

usage: swift_reward.py JOB
"""

from __future__ import annotations

import json
from pathlib import Path

from pace import Pace
from swift import RLHFArguments, rlhf_main
from swift_settings import common_settings, prepare


def main() -> None:
    """Trains as many steps as the driver asks for."""
    pace = Pace()
    task, folder = pace.job, Path(pace.job["folder"])
    data = folder / "swift.jsonl"
    with data.open("w") as file:
        for line in (folder / "prompts.jsonl").open():
            row = json.loads(line)
            messages = [
                {"role": "user", "content": "<image>" * len(row["images"]) + row["prompt"]},
                {"role": "assistant", "content": row["chosen"]},
            ]
            file.write(
                json.dumps(
                    {"messages": messages, "rejected_response": row["rejected"], "images": row["images"]}
                )
                + "\n"
            )
    prepare(pace)
    batch = task["size"]["prompts"]
    rlhf_main(RLHFArguments(rlhf_type="rm", per_device_train_batch_size=batch, **common_settings(task, data)))
    pace.close()


if __name__ == "__main__":
    main()
