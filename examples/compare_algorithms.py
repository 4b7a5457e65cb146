"""PPO, GRPO, RLOO and REINFORCE++ on the bundled model, on the same data, SFT and reward model, seed by seed.

    python examples/compare_algorithms.py --out runs/algorithms --seeds 0 1 2     # about half an hour on two cores
    python examples/compare_algorithms.py --out look --seeds 0 --steps 2 --algorithms ppo   # a look at how it goes

Data, SFT and reward model are those of configs/quickstart.yaml, made once a seed. Each algorithm then samples 64
answers a step: PPO and REINFORCE++ to 64 prompts, the others 4 each to 16. What is judged is never the learned reward
alone: an exact oracle knows what each picture shows. Writes `algorithms.json` and `algorithms.png`; what is done is
kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import matplotlib
import yaml

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from data_tools.config import load_config
from mmrlhf.config import RunConfig
from mmrlhf.pipeline import Run, RunMode
from mmrlhf.training.metrics import read_metrics

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
GROUPS = ["ppo.batch_size=16", "ppo.answers_per_prompt=4"]
SETTINGS = {
    "ppo": [],
    "grpo": ["ppo.algorithm.type=grpo", *GROUPS, "ppo.kl_in=loss", "ppo.kl_estimator=k3"],
    "rloo": ["ppo.algorithm.type=rloo", *GROUPS],
    "reinforce_pp": ["ppo.algorithm.type=reinforce_pp"],
}
# the quickstart's first variant alone
VARIANT = f"ppo.variants={json.dumps(yaml.safe_load(CONFIG.read_text())['ppo']['variants'][:1])}"
CURVES = {
    "gold/factuality": "true claims and right answers (exact)",
    "gold/helpfulness": "objects covered (exact)",
    "score": "learned score",
    "kl": "KL to the SFT model (nats an answer)",
}


def run(out: Path, seed: int, algorithm: str, more: list[str]) -> dict[str, Any]:
    """One algorithm on one seed: its curves, and the exact measures before and after on prompts of the test split."""
    base, folder = out / f"seed{seed}", out / f"seed{seed}-{algorithm}"
    common = [f"output_dir={out}", f"seed={seed}", f"data.seed={seed}", VARIANT]
    if not folder.exists():
        stages = Run(
            load_config(CONFIG, RunConfig, [*common, f"name={base.name}", *more]), RunMode(resume=True)
        )
        stages.data()
        stages.sft()
        stages.reward()
        shutil.copytree(base, folder)
    config = load_config(CONFIG, RunConfig, [*common, f"name={folder.name}", *SETTINGS[algorithm], *more])
    Run(config, RunMode(resume=True)).all()
    found = json.loads((folder / "evaluate" / "tradeoffs.json").read_text())
    change = found["changes"]["balanced"]
    before, after = found["policies"]
    return {
        "algorithm": algorithm,
        "seed": seed,
        "curves": read_metrics(folder / "ppo" / "balanced" / "metrics.jsonl"),
        "true_claims": {"before": before["true_claims"]["mean"], "after": after["true_claims"]["mean"]},
        "gold": {
            name: {
                "before": before["gold"][name]["mean"],
                "after": after["gold"][name]["mean"],
                "change": row,
            }
            for name, row in change["gold"].items()
        },
        "length": change["length"],
        "kl": read_metrics(folder / "ppo" / "balanced" / "metrics.jsonl")[-1]["kl"],
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A line a seed, and the mean of the seeds, for each algorithm and measure."""
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    figure, axes = plt.subplots(1, len(CURVES), figsize=(4.1 * len(CURVES), 3.4), layout="constrained")
    for axis, (name, title) in zip(axes, CURVES.items(), strict=True):
        for number, algorithm in enumerate(algorithms):
            curves = [
                smooth([step[name] for step in row["curves"] if name in step])
                for row in rows
                if row["algorithm"] == algorithm
            ]
            for curve in curves:
                axis.plot(range(1, len(curve) + 1), curve, color=f"C{number}", alpha=0.25, linewidth=1)
            mean = [statistics.fmean(values) for values in zip(*curves, strict=False)]
            axis.plot(range(1, len(mean) + 1), mean, color=f"C{number}", linewidth=2, label=algorithm)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def smooth(values: list[float], window: int = 3) -> list[float]:
    """Means over the last few steps: a step's prompts are few."""
    return [statistics.fmean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each algorithm and seed."""
    lines = [
        "| algorithm | seed | true claims | gold factuality | gold helpfulness | length | KL |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['true_claims']['before']:.1%} → {row['true_claims']['after']:.1%}"]
        for name in ("factuality", "helpfulness"):
            of = row["gold"][name]
            low, high = of["change"]["low"], of["change"]["high"]
            cells.append(f"{of['before']:.3f} → {of['after']:.3f} ({low:+.3f} to {high:+.3f})")
        lines.append(
            f"| {row['algorithm']} | {row['seed']} | {' | '.join(cells)} | {row['length']:+.0%} | {row['kl']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Reads the options and runs what isn't done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, the table and the plot")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--algorithms", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=20, help="steps of each algorithm")
    parser.add_argument("--set", action="append", default=[], help="a setting more, for all algorithms")
    options = parser.parse_args()
    more = [f"ppo.steps={options.steps}", *options.set]
    rows = []
    for seed in options.seeds:
        for algorithm in options.algorithms:
            rows.append(run(options.out, seed, algorithm, more))
            print(table(rows[-1:]), flush=True)
    (options.out / "algorithms.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, options.out / "algorithms.png")
    print(table(rows))


if __name__ == "__main__":
    main()
