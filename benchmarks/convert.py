"""Conversion and shard writing against plain copying, and against `datasets`: the same records, by turns.

    python benchmarks/convert.py [--records 40000] [--sides 48 128] [--workers 2] [--rounds 5]

The records are RLAIF-V rows with a picture each (noise of some kilobytes as PNG, or as JPEG), in tar shards:
- `ours`: `mmrlhf data convert --from rlaif_v`: reads the shards, checks every row and picture, hashes, writes, syncs;
- `tarfile`: the same shards' members copied one by one into new tars with the standard library, which checks nothing;
- `datasets`: `load_dataset("webdataset")`, `map` into rows of TRL's form with as many processes, and Parquet files. As
  documented, it decodes the pictures for `map` and encodes them again after it;
- `datasets bytes`: the same with `Image(decode=False)`, which carries the pictures over as they are and checks nothing.

All with what it takes to start, and to get what was written onto the disk. Ratios are of times taken within a round;
quoted are medians over the rounds in which the machine was quiet, also of the seconds of CPU, which are of all
processes. A line of JSON, and a table on stderr.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rounds import as_table, median, quiet_rounds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHARDS = 8
PEERS = ("tarfile", "datasets", "datasets bytes")


def make_shards(folder: Path, records: int, side: int, kind: str) -> None:
    """RLAIF-V rows as KEY.json and KEY.png or KEY.jpg, in SHARDS tars."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"rows-{shard:04d}.tar", "w") as tar:
            for number in range(shard * records // SHARDS, (shard + 1) * records // SHARDS):
                # a gradient with noise: some kilobytes, as small photographs have
                base = np.linspace(0, 200, side)[:, None, None] + rng.integers(0, 56, (side, side, 3))
                buffer = io.BytesIO()
                Image.fromarray(base.astype(np.uint8)).save(
                    buffer, "PNG" if kind == "png" else "JPEG", quality=85
                )
                row = {
                    "ds_name": "bench",
                    "question": f"What is shown in picture {number}?",
                    "chosen": f"A grey gradient with some noise on it, number {number}. " * 4,
                    "rejected": f"A red car that is parked in front of house {number}. " * 4,
                    "origin_dataset": "noise",
                    "origin_split": json.dumps({"model": "m", "type": "detailed"}),
                    "idx": number,
                    "image_path": f"{number}.{kind}",
                }
                for name, data in (("json", json.dumps(row).encode()), (kind, buffer.getvalue())):
                    info = tarfile.TarInfo(f"{number:08d}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def copied(source: Path, out: Path) -> None:
    """Every member of every tar into a tar of the same name."""
    out.mkdir()
    for path in sorted(source.glob("*.tar")):
        with tarfile.open(path) as old, tarfile.open(out / path.name, "w") as new:
            for member in old:
                new.addfile(member, old.extractfile(member))


def converted(source: Path, out: Path, workers: int) -> None:
    """`mmrlhf data convert`, as a user runs it."""
    command = [
        sys.executable,
        "-m",
        "mmrlhf",
        "data",
        "convert",
        "--from",
        "rlaif_v",
        str(source),
        "-o",
        str(out),
    ]
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


MAPPED = """
import json, sys
from datasets import load_dataset
from datasets import Image
source, out, workers, decode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "decode"
rows = load_dataset("webdataset", data_files=f"{source}/*.tar", split="train", cache_dir=f"{out}/cache")
picture = "png" if "png" in rows.column_names else "jpg"
if not decode:
    rows = rows.cast_column(picture, Image(decode=False))
def pair(row):
    told = row["json"]
    # "text" in both, or each part becomes a text of JSON, which takes longer
    user = [{"type": "image", "text": None}, {"type": "text", "text": told["question"]}]
    return {
        "prompt": [{"role": "user", "content": user}],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": told["chosen"]}]}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": told["rejected"]}]}],
        "images": [row[picture]],
    }
mapped = rows.map(pair, remove_columns=rows.column_names, num_proc=workers)
for shard in range(8):
    mapped.shard(8, shard, contiguous=True).to_parquet(f"{out}/{shard}.parquet")
"""


def mapped(source: Path, out: Path, workers: int, decode: bool) -> None:
    """`datasets`: map, with the pictures decoded or as bytes, and push to Parquet."""
    out.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", MAPPED, str(source), str(out), str(workers)]
    command.append("decode" if decode else "bytes")
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def gflops() -> float:
    """The machine's speed at this moment."""
    a = np.ones((1024, 1024), np.float32)
    began = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 1024**3 / (time.perf_counter() - began) / 1e9


class Spent(NamedTuple):
    """Seconds on the clock, and of CPU in all processes."""

    clock: float
    cpu: float


def spent(work: Callable[[Path], None], folder: Path) -> Spent:
    """How long it takes, with what it wrote on the disk; removes that."""
    out = folder / "out"
    before, began = cpu_seconds(), time.perf_counter()
    work(out)
    os.sync()
    took = Spent(time.perf_counter() - began, cpu_seconds() - before)
    shutil.rmtree(out)
    return took


def cpu_seconds() -> float:
    """What this process and those that it started and that ended have used of the CPUs."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def summary(rounds: Sequence[dict[str, Spent]], speeds: Sequence[float], records: int) -> dict[str, Any]:
    """Records a second, CPU seconds, and the ratios that are quoted: medians over the rounds that count."""
    counted = [rounds[number] for number in quiet_rounds(speeds)]
    names = list(counted[0])
    ours = [own["ours"] for own in counted]
    return {
        "records a second": {name: median([records / own[name].clock for own in counted]) for name in names},
        "cpu seconds": {name: median([own[name].cpu for own in counted]) for name in names},
        **{
            f"ours / {name}": median(
                [own[name].clock / mine.clock for own, mine in zip(counted, ours, strict=True)]
            )
            for name in names
            if name != "ours"
        },
        "rounds": len(counted),
    }


def main() -> None:
    """Runs the rounds of every kind and size of picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--sides", type=int, nargs="+", default=[48, 128], help="of the pictures, in pixels")
    parser.add_argument("--kinds", nargs="+", default=["png", "jpg"], choices=["png", "jpg"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = [["pictures", "kilobytes", "records/s", *(f"of {name}" for name in PEERS)]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in options.kinds:
            for side in options.sides:
                source = folder / f"{kind}{side}"
                make_shards(source, options.records, side, kind)
                size = sum(path.stat().st_size for path in source.iterdir()) / options.records / 1000
                works: dict[str, Callable[[Path], None]] = {
                    "ours": lambda out, source=source: converted(source, out, options.workers),
                    "tarfile": lambda out, source=source: copied(source, out),
                    "datasets": lambda out, source=source: mapped(source, out, options.workers, True),
                    "datasets bytes": lambda out, source=source: mapped(source, out, options.workers, False),
                }
                rounds, speeds = [], [gflops()]
                for _ in range(options.rounds):
                    rounds.append({what: spent(work, folder) for what, work in works.items()})
                    speeds.append(gflops())
                found = summary(rounds, speeds, options.records)
                line = {
                    "pictures": f"{kind} {side}",
                    "kilobytes": round(size, 2),
                    "records": options.records,
                    **found,
                }
                print(
                    json.dumps(
                        {
                            **line,
                            "workers": options.workers,
                            "machine": platform.processor() or platform.machine(),
                            "cores": os.cpu_count(),
                        }
                    ),
                    flush=True,
                )
                table.append(
                    [
                        f"{kind} {side}",
                        f"{size:.1f}",
                        f"{found['records a second']['ours']:,.0f}",
                        *(f"{found[f'ours / {name}']:.2f}" for name in PEERS),
                    ]
                )
                shutil.rmtree(source)
    print(as_table(table), file=sys.stderr)


if __name__ == "__main__":
    main()
