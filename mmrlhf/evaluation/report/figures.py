"""Which plots a report has, from the results and the metrics of each stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrlhf.evaluation.report import plots
from mmrlhf.evaluation.report.summary import gold_names
from mmrlhf.training.metrics import read_metrics

Line = tuple[int, str, list[tuple[float, float]]]  # color, style, points
Key = list[tuple[int, str]]  # color and name
SHOWN = {
    "true": "true image",
    "swapped": "another image",
    "crop": "a part of it",
    "noise": "noise",
    "none": "no image",
}
TINTS = {name: plots.color(index) for name, index in zip(SHOWN.values(), (1, 2, 3, 4, 0), strict=True)}
# by the names of `metric_names.OF_LABELS`
REWARD_PANELS = {
    "accuracy": "accuracy on training pairs",
    "loss": "Bradley-Terry loss, nats",
    "accuracy_ranking": "accuracy on pairs of rankings",
    "loss_ranking": "Plackett-Luce loss, nats",
    "accuracy_binary": "accuracy on yes or no",
    "loss_binary": "loss of yes or no, nats",
    "error_rating": "mean error of ratings, of 1",
    "loss_rating": "loss of ratings",
}
PPO_PANELS = {
    "kl": "KL to the start, nats an answer",
    "length": "length, tokens",
    "entropy": "entropy, nats a token",
}


def evaluation_plots(result: dict[str, Any] | None) -> dict[str, str]:
    """The plots of the policies as SVG by name: means, scatter_gold, scatter_learned."""
    found = {}
    if result:
        policies = result["policies"]
        exact = gold_names(result)
        panels = [("exact score (gold oracle)", exact, [p["gold"] for p in policies], True)] if exact else []
        panels.append(
            ("learned reward, in deviations", result["objectives"], [p["learned"] for p in policies], False)
        )
        found["means"] = plots.means(panels)
        for name in ("gold", "learned"):
            front = result["fronts"][name]
            if isinstance(front, dict) and len(front["objectives"]) > 1:
                on_front = [front["on_front"][p["name"]] for p in policies]
                found[f"scatter_{name}"] = plots.scatters(
                    front["objectives"], [p[name] for p in policies], on_front, share=name == "gold"
                )
    return found


def plot_widths(result: dict[str, Any] | None, judged: dict[str, Any] | None) -> dict[str, str]:
    """By plot, how much of the page's width its panels need (a class of the style sheet); three fill it."""
    panels = {}
    for name in ("gold", "learned"):
        front = result["fronts"][name] if result else None
        if isinstance(front, dict):
            count = len(front["objectives"])
            panels[f"scatter_{name}"] = count * (count - 1) // 2
    if judged:
        panels["reliability"] = len(judged["calibration"])
    return {name: {1: "third", 2: "two"}.get(count, "") for name, count in panels.items()}


def reward_plots(judged: dict[str, Any]) -> dict[str, str]:
    """The plots of a reward model as SVG by name: looking, reliability."""
    found = {}
    groups = _looking(judged)
    if groups:
        found["looking"] = plots.bars(groups, TINTS)
    if judged["calibration"]:
        panels = [
            (name if of["error"] is None else f"{name}: error {of['error']['mean']:.1%}", of["bins"])
            for name, of in judged["calibration"].items()
        ]
        found["reliability"] = plots.reliability(panels)
    return found


def _looking(judged: dict[str, Any]) -> list[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    groups = []
    for objective, by_modality in judged["accuracy"].items():
        if "image-text" in by_modality:
            shown = by_modality["image-text"]
            groups.append(
                (f"{objective}\npairs", [(SHOWN[name], shown[name]) for name in SHOWN if name in shown])
            )
    for objective, measures in judged["singles"].items():
        # pairs of any prompts only where no prompt has two ratings
        rated = "rated_pairs" if measures.get("rated_pairs", {}).get("image-text") else "rating_order"
        for measure, title in (("yes_no_auroc", "yes above no"), (rated, "ratings")):
            if shown := measures.get(measure, {}).get("image-text"):
                groups.append(
                    (f"{objective}\n{title}", [(SHOWN[name], shown[name]) for name in SHOWN if name in shown])
                )
    flip = [(SHOWN[name], judged["flip"][name]) for name in SHOWN if name in judged["flip"]]
    return [*groups, ("image-flip\nboth right", flip)] if flip else groups


def training_curves(run: Path, policies: Sequence[str]) -> dict[str, tuple[str, Key]]:
    """The curves of each stage that left metrics, as SVG with a key of colors: sft, reward, ppo."""
    found: dict[str, tuple[str, Key]] = {}
    supervised = read_metrics(run / "sft" / "metrics.jsonl")
    if supervised:
        found["sft"] = (plots.curves([("loss, nats a token", [(1, "-", series(supervised, "loss"))])]), [])
    reward = read_metrics(run / "reward" / "metrics.jsonl")
    if reward:
        panels, key = _reward_panels(reward)
        if panels:
            found["reward"] = (plots.curves(panels), key)
    ppo = {name: rows for name in policies if (rows := read_metrics(run / "ppo" / name / "metrics.jsonl"))}
    if ppo:
        colors = {name: index for index, name in enumerate(policies)}
        found["ppo"] = (plots.curves(_ppo_panels(ppo, colors)), [(colors[name], name) for name in ppo])
    return found


def _reward_panels(reward: list[dict[str, float]]) -> tuple[list[tuple[str, list[Line]]], Key]:
    """A panel each metric of a kind of labels that training met, with a line an objective; and their colors."""
    metrics = {key for row in reward for key in row}
    of = {
        metric: sorted(key.removeprefix(f"{metric}/") for key in metrics if key.startswith(f"{metric}/"))
        for metric in REWARD_PANELS
    }
    colors = {
        name: index + 1 for index, name in enumerate(sorted({n for names in of.values() for n in names}))
    }
    panels: list[tuple[str, list[Line]]] = [
        (title, [(colors[name], "-", series(reward, f"{metric}/{name}")) for name in of[metric]])
        for metric, title in REWARD_PANELS.items()
        if of[metric]
    ]
    return panels, [(index, name) for name, index in colors.items()]


def _ppo_panels(
    ppo: dict[str, list[dict[str, float]]], colors: dict[str, int]
) -> list[tuple[str, list[Line]]]:
    keys = sorted({key for rows in ppo.values() for row in rows for key in row if key.startswith("reward/")})
    rewards: dict[str, list[Line]] = {}
    for key in keys:
        _, objective, modality = key.split("/", 2)
        style = "-" if modality == "image-text" else "--"
        for name, rows in ppo.items():
            line = series(rows, key)
            if line:
                rewards.setdefault(f"reward: {objective}", []).append((colors[name], style, line))
    panels = list(rewards.items())
    for key, title in PPO_PANELS.items():
        lines: list[Line] = [
            (colors[name], "-", line) for name, rows in ppo.items() if (line := series(rows, key))
        ]
        if lines:
            panels.append((title, lines))
    return panels


def series(rows: Sequence[dict[str, float]], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have a finite value."""
    return [(row["step"], row[key]) for row in rows if key in row and math.isfinite(row[key])]
