"""What our step costs as the job grows: answers to a prompt, image tokens, answer tokens, pictures, PPO epochs.

    python benchmarks/growth.py --out growth.jsonl [--axes answers epochs] [--rounds 6] [--trl-python trl/bin/python]
    python benchmarks/growth.py --plot figures --lines growth.jsonl

Each point is the comparison of `benchmarks/ppo.py` at another size, in a process of its own: our step beside `lean` and
beside `rows` (GRPO: each answer in a row of its own; PPO: `naive`), by turns. All other sizes stay as in the job. With
`--trl-python`, points along `answers` and `pixels` are run beside TRL too (`benchmarks/peers.py`). A line of JSON a
point; the work of towers and language models is counted in each. `--plot` draws two figures, as SVG and PNG.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rounds import as_table

BASE = {"answers": 4, "epochs": 1, "pixels": 112, "answer": 32, "pictures": 1, "prompts": 8}
AXES: dict[str, list[dict[str, int]]] = {
    "answers": [{"answers": n} for n in (2, 4, 8, 16)],
    "pixels": [{"pixels": n} for n in (112, 224, 448)],  # 64, 256 and 1024 image tokens
    "answer": [{"answer": n} for n in (16, 32, 64, 128)],
    "pictures": [{"pictures": n} for n in (1, 2, 4)],
    "epochs": [{"answers": 1, "epochs": n} for n in (1, 2, 4, 8)],
}
LABELS = {
    "answers": "answers to a prompt",
    "pixels": "image tokens of a prompt",
    "answer": "tokens of an answer",
    "pictures": "pictures of a prompt",
    "epochs": "PPO epochs",
}
OURS, ROWS, TRL, GREY = "#1f5fa8", "#c4571b", "#3f8f4f", "#777777"


def points(axes: Sequence[str]) -> list[dict[str, int]]:
    """The sizes to run, each once."""
    found: list[dict[str, int]] = []
    for axis in axes:
        found += [size for step in AXES[axis] if (size := {**BASE, **step}) not in found]
    return found


def measure(size: dict[str, int], rounds: int, lora: bool, threads: int) -> dict[str, Any]:
    """One point, in this process."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import job
    import ppo
    import torch

    torch.set_num_threads(threads)
    job.resize(**{name: size[name] for name in ("prompts", "answer", "pixels", "pictures")})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job.make_checkpoint(folder / "model")
        line = ppo.compare(folder / "model", folder, lora, rounds, size["epochs"], size["answers"])
    return line | {"size": size, "image_tokens": job.IMAGE_TOKENS * job.PICTURES, "machine": job.machine()}


def beside_trl(size: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """The ratio of TRL's seconds to ours at a point, both scoring by a rule, with what was counted."""
    import peers

    trainers = [
        peers.Trainer("ours", "ours_grpo.py", options={"judge": False}),
        peers.Trainer("trl", "trl_grpo.py", options.trl_python, options.trl_overlay),
    ]
    job_size = {name: size[name] for name in ("prompts", "answer", "pixels", "pictures")}
    with tempfile.TemporaryDirectory() as name:
        lora, folder = not options.full, Path(name)
        line = peers.run(trainers, lora, options.rounds, folder, options.threads, size["answers"], job_size)
    names = ("ratios", "ratios_by_round", "seconds_a_step", "peak_memory_mb", "work_a_step", "versions")
    return {name: line[name] for name in names}


def along(lines: Sequence[dict[str, Any]], axis: str) -> list[tuple[int, dict[str, Any]]]:
    """The points along an axis, as (value, line), in order; image tokens stand for pixels."""
    sizes = [{**BASE, **step} for step in AXES[axis]]
    found = {json.dumps(line["size"], sort_keys=True): line for line in lines}  # the latest of each
    chosen = [found[key] for size in sizes if (key := json.dumps(size, sort_keys=True)) in found]
    return [(line["image_tokens"] if axis == "pixels" else line["size"][axis], line) for line in chosen]


def factor(line: dict[str, Any]) -> float:
    """Of the row-wise step over ours (PPO: of naive)."""
    ratios = line["ratios"]
    return float(next(value for name, value in ratios.items() if name in ("rows / ours", "naive / ours")))


def token_factor(size: dict[str, int], image_tokens: int, text: int = 30) -> float:
    """How many times as many tokens are read in rows as with a shared prefix, in an update."""
    prefix, answers = text + image_tokens, size["answers"] * size["answer"]
    return (size["answers"] * prefix + answers) / (prefix + answers)


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """The straight line through points: slope, where it begins, and the share of y's variance that it explains."""
    slope, start = np.polyfit(x, y, 1)
    left = np.asarray(y) - (slope * np.asarray(x) + start)
    return float(slope), float(start), float(1 - left.var() / np.var(y))


def show(lines: Sequence[dict[str, Any]]) -> str:
    """All axes as a table."""
    head = [
        "axis",
        "value",
        "ours",
        "lean",
        "rows (naive)",
        "factor",
        "TRL / ours",
        "tower calls",
        "pictures seen",
    ]
    rows = [head]
    for axis in AXES:
        for value, line in along(lines, axis):
            seconds, work = line["seconds_a_step"], line["work_a_step"]["ours"]
            other = next(name for name in seconds if name not in ("ours", "lean"))
            trl = line.get("trl", {}).get("ratios", {}).get("trl / ours")
            rows.append(
                [
                    LABELS[axis],
                    str(value),
                    *(f"{seconds[name]:.2f} s" for name in ("ours", "lean", other)),
                    f"{factor(line):.2f}",
                    "" if trl is None else f"{trl:.2f}",
                    f"{work['tower_calls']:g}",
                    f"{work['tower_images']:g}",
                ]
            )
    return as_table(rows)


def plot(lines: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Draws `factor` and `seconds`, each as SVG and PNG; answers their paths."""
    import matplotlib
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    style: dict[str, Any] = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e4e4",
        "svg.fonttype": "none",
    }
    paths = []
    with matplotlib.rc_context(style):
        for name, draw, width in (("factor", _draw_factor, 8.4), ("seconds", _draw_seconds, 11.0)):
            figure = Figure(figsize=(width, 3.6), layout="constrained")
            draw(figure, lines)
            for kind in ("svg", "png"):
                paths.append(folder / f"{name}.{kind}")
                figure.savefig(paths[-1], dpi=150)
    return paths


def _draw_factor(figure: Any, lines: Sequence[dict[str, Any]]) -> None:
    axes = figure.subplots(1, 2, sharey=True)
    for at, axis in zip(axes, ("answers", "pixels"), strict=True):
        found = along(lines, axis)
        x = [value for value, _ in found]
        read = [token_factor(line["size"], line["image_tokens"]) for _, line in found]
        at.plot(x, read, "--", color=GREY, lw=1.2, label="tokens, rows / shared")
        lean = [line["seconds_a_step"]["rows"] / line["seconds_a_step"]["lean"] for _, line in found]
        at.plot(x, lean, "o-", color=GREY, ms=4, lw=1.2, label="rows / lean")
        at.plot(x, [factor(line) for _, line in found], "o-", color=OURS, lw=2, label="rows / ours")
        trl = [(v, line["trl"]["ratios"]["trl / ours"]) for v, line in found if "trl" in line]
        if trl:
            at.plot(*zip(*trl, strict=True), "s-", color=TRL, lw=2, label="TRL / ours")
        _by_twos(at, x, LABELS[axis])
        at.axhline(1, color="#333333", lw=0.8)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("times as much a step")
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=4)


def _draw_seconds(figure: Any, lines: Sequence[dict[str, Any]]) -> None:
    axes = figure.subplots(1, 3, sharey=True)
    for at, axis in zip(axes, ("answers", "answer", "pictures"), strict=True):
        found = along(lines, axis)
        x = [value for value, _ in found]
        for name, color, label in (("ours", OURS, "ours"), ("rows", ROWS, "rows")):
            y = [line["seconds_a_step"][name] for _, line in found]
            at.plot(x, y, "o", color=color)
            if len(x) > 1:
                slope, start, share = fit(x, y)
                ends = [min(x), max(x)]
                told = f"{label}: {slope:.3g} s each (R² {share:.3f})"
                at.plot(ends, [start + slope * end for end in ends], "-", color=color, lw=1.5, label=told)
        at.set_xticks(x)
        at.set_xlim(left=0)
        at.set_xlabel(LABELS[axis])
        at.legend(frameon=False, loc="upper left")
    axes[0].set_ylabel("seconds a step")
    axes[0].set_ylim(bottom=0)
    axes[0].margins(y=0.25)


def _by_twos(at: Any, ticks: Sequence[int], label: str) -> None:
    at.set_xscale("log", base=2)
    at.set_xticks(ticks, [str(tick) for tick in ticks])
    at.set_xlabel(label)


def main() -> None:
    """Runs the points that the options name, or draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--axes", nargs="*", choices=list(AXES), default=list(AXES), help="what grows")
    parser.add_argument(
        "--rounds", type=int, default=6, help="a step of each trainer; at least 3 for figures"
    )
    parser.add_argument("--full", action="store_true", help="train the whole language model, not adapters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl-python", help="the interpreter of an environment with TRL")
    parser.add_argument("--trl-overlay", default="", help="its PYTHONPATH")
    parser.add_argument("--out", type=Path, help="JSON lines are added to it; nothing: they are printed")
    parser.add_argument(
        "--plot", type=Path, metavar="DIR", help="draw the lines of --lines into a folder; run nothing"
    )
    parser.add_argument(
        "--lines", type=Path, help="JSON lines of runs before; the latest of each size counts"
    )
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.point, options.rounds, not options.full, options.threads)))
        return
    lines = [json.loads(line) for line in options.lines.open()] if options.lines else []
    if options.plot:
        for path in plot(lines, options.plot):
            print(path)
        return
    for size in points(options.axes):
        lines.append(_point(size, options))
        text = json.dumps(lines[-1])
        if options.out:
            with options.out.open("a") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)
        print(show(lines[-1:]), file=sys.stderr, flush=True)
    print(show(lines), file=sys.stderr)


def _point(size: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    own = [sys.executable, __file__, "--point", json.dumps(size)]
    own += ["--rounds", str(options.rounds), "--threads", str(options.threads), *["--full"] * options.full]
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True, env=env)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if options.trl_python and any(size in points([axis]) for axis in ("answers", "pixels")):
        line["trl"] = beside_trl(size, options)
    return line


if __name__ == "__main__":
    main()
