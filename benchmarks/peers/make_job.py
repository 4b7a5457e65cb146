"""Writes the job into a folder: the model, the prompts as our data set, and the same prompts as the peers read them.

usage: make_job.py JOB, a JSON object with `folder`, `records` and the sizes that `job.resize` takes
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


import job
from transformers import AutoProcessor, GenerationConfig


def main() -> None:
    """Makes all of it."""
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    job.resize(**task["size"])
    model = folder / "model"
    job.make_checkpoint(model)
    # the peers sample with transformers, which takes this from the checkpoint: all answers have the same length
    settings = GenerationConfig.from_pretrained(model)
    settings.suppress_tokens = list(job.forbidden(AutoProcessor.from_pretrained(model)))
    settings.min_new_tokens = job.ANSWER
    settings.save_pretrained(model)
    records = job.make_records(task["records"], pairs=task["pairs"])
    job.write_data(folder / "data", records)
    with (folder / "prompts.jsonl").open("w") as file:
        for record in records:
            pictures = []
            for number, ref in enumerate(record.images):
                path = folder / f"{record.id}-{number}.png"
                assert ref.data is not None
                path.write_bytes(ref.data)
                pictures.append(str(path))
            row = {"prompt": record.prompt[0].text, "images": pictures}
            if task["pairs"]:
                row["chosen"], row["rejected"] = (response.text for response in record.responses)
            file.write(json.dumps(row) + "\n")
    (folder / "machine.json").write_text(json.dumps(job.machine()))


if __name__ == "__main__":
    main()
