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
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_tools.tar import TarWriter

ROOT = Path(__file__).resolve().parents[1]
WORDS = [f"w{number}" for number in range(5000)]
SHARD = 25_000  # records of a tar that is read
SIDE = 32  # pixels
STEPS = ("build", "index", "audit")
READS = 1000  # records that are read out of the mixture
OPENED = f"""
import sys
from data_tools.balance.mixture import Label, Layout, Mixture
from data_tools.shards import open_records
records = open_records(sys.argv[1], "train")
layout = Layout(Label(*stratum, repeat) for stratum, repeat in zip(records.strata, records.repeats, strict=True))
mixture = Mixture(layout.strata(), seed=0)
for position in range(0, mixture.period, max(1, mixture.period // {READS})):
    draw = mixture.at(position)
    records[layout.record(draw.stratum, draw.row)]
"""


def texts(rng: np.random.Generator, rows: int, lengths: Sequence[int]) -> Iterator[list[str]]:
    """Texts of so many words of 5,000 each, drawn; so many rows of them."""
    stops = np.cumsum(lengths).tolist()
    for drawn in rng.integers(0, len(WORDS), (rows, stops[-1])).tolist():
        words = [WORDS[number] for number in drawn]
        yield [" ".join(words[stop - length : stop]) for stop, length in zip(stops, lengths, strict=True)]


def pictures(rng: np.random.Generator, number: int) -> Iterator[bytes]:
    """Noise as PNG, some 3 kB each."""
    for pixels in rng.integers(0, 256, (number, SIDE, SIDE, 3), np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        yield buffer.getvalue()


def make(folder: Path, records: int) -> None:
    """The input: tars of RLAIF-V rows, and TRL rows."""
    rng = np.random.default_rng(records)
    (folder / "shown").mkdir(parents=True)
    shown = records // 2
    for first in range(0, shown, SHARD):
        count = min(SHARD, shown - first)
        tar = TarWriter(folder / "shown" / f"{first:08d}.tar")
        made = zip(texts(rng, count, (8, 24, 20)), pictures(rng, count), strict=True)
        for number, ((question, chosen, rejected), picture) in enumerate(made, first):
            row = {
                "ds_name": "noise",
                "question": f"{question}?",
                "chosen": chosen,
                "rejected": rejected,
                "origin_dataset": "noise",
                "idx": number,
                "image_path": f"{number}.png",
            }
            tar.add(f"{number:08d}.json", json.dumps(row).encode())
            tar.add(f"{number:08d}.png", picture)
        tar.finish()
    with open(folder / "words.jsonl", "w", encoding="utf-8") as file:
        for first in range(0, records - shown, SHARD):
            count = min(SHARD, records - shown - first)
            for prompt, chosen, rejected in texts(rng, count, (12, 24, 20)):
                file.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
    config = {
        "sources": [
            {"type": "rlaif_v", "name": "shown", "path": str(folder / "shown")},
            {"type": "trl", "name": "words", "path": str(folder / "words.jsonl")},
        ],
        "balance": {"modality": {"text": 0.4, "image-text": 0.6}},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds of all its processes, and megabytes of the largest of them."""
    code = (
        "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss]))"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    returned, processor, kilobytes = json.loads(done.stdout)
    if returned:
        raise SystemExit(f"{' '.join(arguments)}: exit code {returned}\n{done.stderr}")
    return took, processor, kilobytes * 1024 / 1e6


def measure(folder: Path, records: int, workers: int, names: Sequence[str] = STEPS) -> dict[str, Any]:
    """Microseconds a record and megabytes of each step, and how many records the build keeps."""
    data = str(folder / "data")
    mmrlhf = [sys.executable, "-m", "mmrlhf", "data"]
    steps = {
        "build": [*mmrlhf, "build", str(folder / "config.yaml"), "-o", data, "--workers", str(workers)],
        "index": [sys.executable, "-c", OPENED, data],
        "audit": [*mmrlhf, "audit", data, "-o", str(folder / "audit")],
    }
    found: dict[str, Any] = {"records": records}
    for name in names:
        took, processor, megabytes = timed(steps[name])
        found[name] = {
            "wall": round(took / records * 1e6, 1),
            "cpu": round(processor / records * 1e6, 1),
            "megabytes": round(megabytes),
        }
        print(records, name, found[name], file=sys.stderr, flush=True)
    found["kept"] = json.loads((folder / "data" / "manifest.json").read_bytes())["records"]
    return found


def growth(first: dict[str, Any], last: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By step and kind of time, how many times as much a record takes at the last size as at the first."""
    return {
        step: {kind: round(last[step][kind] / first[step][kind], 3) for kind in ("wall", "cpu")}
        for step in STEPS
    }


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
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "workers": options.workers,
    }
    print(json.dumps({"last / first, time a record": growth(found[0], found[-1]), **machine}))


if __name__ == "__main__":
    main()
