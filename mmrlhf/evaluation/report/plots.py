"""The report's plots, as SVG in the page's colors (see `data_tools.pages.svg`)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_tools.pages.svg import FAINT, INK, LINE, STYLE, color, new_figure, percent_axis, to_svg


def means(panels: Sequence[tuple[str, list[str], list[dict[str, Any]], bool]]) -> str:
    """Dots with intervals: each panel is (title, objectives, a mapping of objective to estimate for each
    policy, whether they are shares)."""
    with matplotlib.rc_context(STYLE):
        count = max(len(names) for _, names, _, _ in panels)
        policies = len(panels[0][2])
        figure, axes = new_figure(1, len(panels), 9.6, 0.9 + count * (0.34 + 0.15 * policies))
        for axis, (title, names, values, share) in zip(axes, panels, strict=True):
            axis.set_title(title)
            for index, estimates in enumerate(values):
                shift = (index - (policies - 1) / 2) * 0.72 / max(policies, 1)
                for row, name in enumerate(names):
                    if name in estimates:
                        _dot(axis, estimates[name], row + shift, color(index))
            axis.set_yticks(range(len(names)), names, fontsize=10, color=INK)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(MaxNLocator(6))
            axis.grid(axis="y", visible=False)
            for edge in range(1, len(names)):
                axis.axhline(edge - 0.5, color=LINE, linewidth=0.7)
            if share:
                percent_axis(axis.xaxis)
            else:
                axis.axvline(0, color=FAINT, linewidth=0.8, linestyle=(0, (3, 3)))
        return to_svg(figure)


def _dot(axis: Axes, estimate: dict[str, Any], y: float, tint: str) -> None:
    if estimate["low"] is not None:
        axis.plot([estimate["low"], estimate["high"]], [y, y], color=tint, linewidth=2.2, alpha=0.45)
    axis.plot(estimate["mean"], y, "o", color=tint, markersize=6.5)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many small panels, three a row, each as high in inches as told."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure, axes = new_figure(rows, columns, 3.2 * columns, height * rows)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, list(axes[:count])


def scatters(
    objectives: Sequence[str], policies: Sequence[dict[str, Any]], on_front: Sequence[bool], share: bool
) -> str:
    """One panel for each pair of objectives; policies on the front are filled, the others hollow."""
    pairs = list(itertools.combinations(objectives, 2))
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(pairs), 3.0)
        for axis, (one, other) in zip(axes, pairs, strict=True):
            for index, (estimates, front) in enumerate(zip(policies, on_front, strict=True)):
                _cross(axis, estimates[one], estimates[other], color(index), front)
            axis.set_xlabel(one)
            axis.set_ylabel(other)
            axis.margins(0.12)
            for ticks in (axis.xaxis, axis.yaxis):
                ticks.set_major_locator(MaxNLocator(5))
                if share:
                    percent_axis(ticks)
        return to_svg(figure)


def _cross(axis: Axes, x: dict[str, Any], y: dict[str, Any], tint: str, filled: bool) -> None:
    if x["low"] is not None and y["low"] is not None:
        axis.plot([x["low"], x["high"]], [y["mean"]] * 2, color=tint, linewidth=1.4, alpha=0.45)
        axis.plot([x["mean"]] * 2, [y["low"], y["high"]], color=tint, linewidth=1.4, alpha=0.45)
    axis.plot(
        x["mean"],
        y["mean"],
        "o",
        markersize=9,
        markeredgewidth=2,
        markeredgecolor=tint,
        markerfacecolor=tint if filled else "none",
    )


def bars(groups: Sequence[tuple[str, Sequence[tuple[str, dict[str, Any]]]]], tints: dict[str, str]) -> str:
    """Shares as horizontal bars with intervals: each group is (name, [(which, estimate)]); `tints` colors
    `which`."""
    with matplotlib.rc_context(STYLE):
        count = sum(len(items) + 1 for _, items in groups)
        figure, (axis,) = new_figure(1, 1, 8.2, 0.55 + 0.27 * count)
        ticks, labels, y = [], [], 0.0
        for name, items in groups:
            ticks.append(y + (len(items) - 1) / 2)
            labels.append(name)
            for which, estimate in items:
                axis.barh(y, estimate["mean"], height=0.78, color=tints[which])
                axis.plot([estimate["low"], estimate["high"]], [y, y], color=INK, linewidth=1.2)
                edge = max(estimate["high"], estimate["mean"])
                axis.text(
                    edge + 0.012, y, f"{estimate['mean']:.1%}  {which}", va="center", fontsize=9, color=INK
                )
                y += 1
            y += 0.8
        axis.axvline(0.5, color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
        axis.set_xlim(0, 1.22)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        percent_axis(axis.xaxis)
        axis.set_yticks(ticks, labels, fontsize=10, color=INK)
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(y - 1.1, -0.8)
        axis.grid(axis="y", visible=False)
        return to_svg(figure)


def curves(panels: Sequence[tuple[str, Sequence[tuple[int, str, list[tuple[float, float]]]]]]) -> str:
    """Small line charts: each panel is (title, [(color index, line style, points)]); noisy lines are
    smoothed, the raw ones stay faintly behind."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(panels), 2.25)
        for axis, (title, lines) in zip(axes, panels, strict=True):
            axis.set_title(title)
            for index, style, points in lines:
                steps, values = [p[0] for p in points], [p[1] for p in points]
                axis.plot(steps, values, style, color=color(index), linewidth=0.8, alpha=0.25)
                axis.plot(steps, smooth(values), style, color=color(index), linewidth=1.7)
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axis.yaxis.set_major_locator(MaxNLocator(4))
        return to_svg(figure)


def smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a window that is a tenth of the series, centred, shorter at the ends."""
    reach = len(values) // 20
    return [
        sum(window) / len(window)
        for i in range(len(values))
        if (window := values[max(0, i - reach) : i + reach + 1])
    ]


def reliability(panels: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    """How often right against how confident: each panel is (title, bins of `calibration`); a dot's area grows
    with the share of the pairs in its bin."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(panels), 3.0)
        for axis, (title, bins) in zip(axes, panels, strict=True):
            total = sum(b["n"] for b in bins)
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axis.plot([0.5, 1], [0.5, 1], color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
            sizes = [10 + 260 * b["n"] / total for b in bins]
            axis.scatter(x, y, s=sizes, color=color(1), zorder=3, clip_on=False)
            axis.set_title(title)
            axis.set_xlabel("confidence")
            axis.set_ylabel("share right")
            axis.set_xlim(0.48, 1.02)
            axis.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
            axis.set_ylim(min(0.3, *y) - 0.04, 1.04)
            axis.yaxis.set_major_locator(MaxNLocator(5))
            for ticks in (axis.xaxis, axis.yaxis):
                percent_axis(ticks)
        return to_svg(figure)
