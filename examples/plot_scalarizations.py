"""Draws which trade-offs each scalarization reaches, on a front that bulges outwards and on one that is dented.

    python examples/plot_scalarizations.py --out docs/scalarizers.png      # a few seconds

A front is sampled densely, and of its points each setting of a scalarizer (weights, a level, a bound) picks the one
that scores most. The Lagrangian picks anew after each update of its multiplier; its late answers are drawn, and their
mean.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from mmrlhf.rewards.scalarizers import (
    Chebyshev,
    Lagrangian,
    Lexicographic,
    Nash,
    ScalarizerBase,
    WeightedSum,
    WorstCase,
)
from mmrlhf.types import Rewards

NAMES = ("helpfulness", "safety")
T = torch.linspace(0, 1, 2001, dtype=torch.float64)
FRONTS = {
    "convex front": torch.stack([(math.pi / 2 * T).sin(), (math.pi / 2 * T).cos()], -1),
    "concave front": torch.stack([T**2, (1 - T) ** 2], -1),
}
SHARES = [i / 20 for i in range(1, 20)]
BOUND = 0.6  # of the Lagrangian, on safety


def of(share: float) -> dict[str, float]:
    return dict(zip(NAMES, (share, 1 - share), strict=True))


# what each panel sweeps: a setting between 0 and 1, as a scalarizer
PANELS: dict[str, tuple[str, Callable[[float], ScalarizerBase]]] = {
    "weighted sum\n(standardised, gated)": ("weights", lambda share: WeightedSum(weights=of(share))),
    "Chebyshev, hard": ("weights", lambda share: Chebyshev(weights=of(share), reference=1.0, mu=0)),
    "Chebyshev, mu = 0.1": ("weights", lambda share: Chebyshev(weights=of(share), reference=1.0, mu=0.1)),
    "worst case": ("one point", lambda share: WorstCase()),
    "Nash product": (
        "weights",
        lambda share: Nash(weights=of(share), disagreement=dict.fromkeys(NAMES, 0.0), floor=1e-3),
    ),
    "lexicographic\n(threshold)": (
        "levels of safety",
        lambda level: Lexicographic(order=["safety", "helpfulness"], levels={"safety": level}, slack=0),
    ),
}


def rewards_of(points: Tensor) -> Rewards:
    return Rewards(NAMES, points, torch.ones_like(points, dtype=torch.bool), torch.zeros_like(points))


def reached(make: Callable[[float], ScalarizerBase], points: Tensor) -> Tensor:
    """The points (N, 2) that the settings pick."""
    return torch.stack([points[make(setting)(rewards_of(points)).argmax()] for setting in SHARES])


def settled(points: Tensor, steps: int = 800) -> Tensor:
    """What a policy answers late, if it gives the best answer under each step's multiplier: (N, 2)."""
    lagrangian = Lagrangian(weights={"helpfulness": 1.0}, at_least={"safety": BOUND}, kp=0.2, ki=0.05)
    given = []
    for _ in range(steps):
        answer = points[lagrangian(rewards_of(points)).argmax()].unsqueeze(0)
        lagrangian.update(rewards_of(answer))
        given.append(answer)
    return torch.cat(given[steps // 2 :])


def panel(axis: Axes, title: str, note: str, pick: Callable[[Tensor], Tensor]) -> None:
    """Both fronts, and what is picked of each."""
    for number, (name, points) in enumerate(FRONTS.items()):
        found = pick(points)
        axis.plot(*points.T.tolist(), color="0.8", linewidth=2, zorder=1)
        axis.scatter(*found.T.tolist(), color=f"C{number}", s=26, zorder=3, clip_on=False, label=name)
    axis.set_title(title, fontsize=10, loc="left")
    axis.text(1.0, 1.0, note, transform=axis.transAxes, ha="right", va="top", fontsize=9, color="0.4")
    axis.set(xlim=(0, 1.05), ylim=(0, 1.05), xticks=[0, 1], yticks=[0, 1], aspect="equal")
    axis.spines[["top", "right"]].set_visible(False)


def draw(path: Path) -> None:
    """A panel a scalarization."""
    figure, grid = plt.subplots(2, 4, figsize=(11, 6), layout="constrained")
    axes = grid.flatten().tolist()
    for axis, (title, (note, make)) in zip(axes, PANELS.items(), strict=False):
        panel(axis, title, note, lambda points, make=make: reached(make, points))
    last = axes[len(PANELS)]
    panel(last, "Lagrangian", f"safety at least {BOUND}", settled)
    last.axhline(BOUND, color="0.5", linewidth=1, linestyle=":", zorder=0)
    for number, points in enumerate(FRONTS.values()):
        last.scatter(*settled(points).mean(0).tolist(), color=f"C{number}", marker="x", s=70, zorder=4)
    for axis in grid[:, 0]:
        axis.set_ylabel("safety")
    for axis in axes[3:7]:
        axis.set_xlabel("helpfulness")
    axes[-1].axis("off")
    axes[-1].legend(*last.get_legend_handles_labels(), loc="center left", frameon=False, fontsize=10)
    axes[-1].text(0.03, 0.3, "x: the mean of what it answers", fontsize=10, transform=axes[-1].transAxes)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    draw(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main()
