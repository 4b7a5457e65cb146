"""A million records are read, balanced, indexed and audited: time a record, and the most memory, by size.

    python benchmarks/million.py [--sizes 100000 1000000] [--workers 2] [--where DIR]

Half of the records are pairs about a picture (3 kB of noise as PNG, in tar shards), half are text-only (JSON lines). Of
each size: `build` is `mmrlhf data build` with quotas of modality that leave records out; `index` opens the result and
makes the mixture; `audit` is `mmrlhf data audit`, all audits. Memory is the largest of any process of the step, as the
system counts it. A line of JSON a size; run it on a quiet machine, with 20 GB of free disk for a million.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SHARD = 25_000  # records of a tar that is read
SIDE = 32  # pixels
OPENED = """
import sys
from data_tools.balance.mixture import mixture_of
from data_tools.shards import open_records
records = open_records(sys.argv[1], "train")
mixture = mixture_of(records, seed=0)
for position in range(0, len(mixture), max(1, len(mixture) // 1000)):
    mixture.at(position)
"""


def words(rng: np.random.Generator, number: int) -> str:
    """So many words of 5,000, drawn."""
    return " ".join(f"w{word}" for word in rng.integers(0, 5000, number))


def make(folder: Path, records: int) -> None:
    """The input: tars of RLAIF-V rows, and TRL rows."""
    rng = np.random.default_rng(records)
    (folder / "shown").mkdir(parents=True)
    for first in range(0, records // 2, SHARD):
        with tarfile.open(folder / "shown" / f"{first:08d}.tar", "w") as tar:
            for number in range(first, min(first + SHARD, records // 2)):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(
                    buffer, "PNG", compress_level=0
                )
                row = {
                    "ds_name": "noise",
                    "question": f"{words(rng, 8)}?",
                    "chosen": words(rng, 24),
                    "rejected": words(rng, 20),
                    "origin_dataset": "noise",
                    "idx": number,
                    "image_path": f"{number}.png",
                }
                for name, data in (("json", json.dumps(row).encode()), ("png", buffer.getvalue())):
                    info = tarfile.TarInfo(f"{number:08d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    with open(folder / "words.jsonl", "w", encoding="utf-8") as file:
        for _ in range(records - records // 2):
            row = {"prompt": words(rng, 12), "chosen": words(rng, 24), "rejected": words(rng, 20)}
            file.write(json.dumps(row) + "\n")
    config = {
        "sources": [
            {"type": "rlaif_v", "name": "shown", "path": str(folder / "shown")},
            {"type": "trl", "name": "words", "path": str(folder / "words.jsonl")},
        ],
        "balance": {"modality": {"text": 0.4, "image-text": 0.6}},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML


def timed(arguments: list[str]) -> tuple[float, float]:
    """Seconds, and megabytes of the largest of its processes that have ended."""
    began = time.perf_counter()
    code = (
        "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "print(json.dumps([done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    returned, kilobytes = json.loads(done.stdout)
    if returned:
        raise SystemExit(f"{' '.join(arguments)}: exit code {returned}\n{done.stderr}")
    return time.perf_counter() - began, kilobytes / 1000


def measure(folder: Path, records: int, workers: int) -> dict[str, Any]:
    """Microseconds a record and megabytes of each step."""
    data = str(folder / "data")
    mmrlhf = [sys.executable, "-m", "mmrlhf", "data"]
    steps = {
        "build": [*mmrlhf, "build", str(folder / "config.yaml"), "-o", data, "--workers", str(workers)],
        "index": [sys.executable, "-c", OPENED, data],
        "audit": [*mmrlhf, "audit", data, "-o", str(folder / "audit")],
    }
    found: dict[str, Any] = {"records": records}
    for name, arguments in steps.items():
        took, megabytes = timed(arguments)
        found[name] = {"microseconds a record": round(took / records * 1e6, 1), "megabytes": round(megabytes)}
        print(records, name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Makes, measures and removes the data of each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--where", type=Path, default=None, help="a folder on a disk with room")
    options = parser.parse_args()
    found = []
    for records in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.where) as name:
            folder = Path(name)
            make(folder, records)
            found.append(measure(folder, records, options.workers))
            print(json.dumps(found[-1]), flush=True)
    ratios = {
        step: round(found[-1][step]["microseconds a record"] / found[0][step]["microseconds a record"], 3)
        for step in ("build", "index", "audit")
    }
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "workers": options.workers,
    }
    print(json.dumps({"last / first, time a record": ratios, **machine}))


if __name__ == "__main__":
    main()
