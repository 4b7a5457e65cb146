"""The plot that every audit's section begins with: its numbers with their intervals, beside those of another audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from data_tools.audits.base import Finding, Metric, Scope, scope_label
from data_tools.intervals import Estimate
from data_tools.pages.svg import FAINT, INK, LINE, STYLE, color, new_figure, percent_axis, to_svg

MINE, THEIRS = 1, 0  # colors
WIDE = 3  # panels a row

Row = tuple[str, Scope, Finding | None, Finding | None]


def forest(rows: Sequence[Row], metrics: Mapping[str, Metric]) -> tuple[str, float]:
    """A panel for each metric that has intervals, a line for each part of the data, a dot with its interval for each of
    the two audits; a dashed line where nothing would be amiss. As SVG, and its width in inches; "" and 0 if there is
    nothing to draw."""
    rows = [row for row in rows if any(found and isinstance(found.value, Estimate) for found in row[2:])]
    names = list(dict.fromkeys(row[0] for row in rows))
    parts = list(dict.fromkeys(row[1] for row in rows))
    if not rows:
        return "", 0.0
    with matplotlib.rc_context(STYLE):
        columns = 2 if len(names) == 4 else min(WIDE, len(names))
        lines = -(-len(names) // columns)
        height = 0.75 + 0.32 * len(parts)
        width = 3.4 + 2.2 * columns
        figure, axes = new_figure(lines, columns, width, lines * height)
        for number, axis in enumerate(axes):
            if number >= len(names):
                axis.set_visible(False)
                continue
            shown = {row[1]: row[2:] for row in rows if row[0] == names[number]}
            _panel(axis, names[number], metrics[names[number]], parts, shown, labels=number % columns == 0)
        return to_svg(figure), width


def _panel(
    axis: Axes,
    name: str,
    metric: Metric,
    parts: Sequence[Scope],
    shown: Mapping[Scope, Sequence[Finding | None]],
    labels: bool,
) -> None:
    axis.set_title(name.replace("_", " "))
    both = any(found[1] for found in shown.values())
    for line, part in enumerate(parts):
        for which, found in enumerate(shown.get(part, ())):
            if found and isinstance(found.value, Estimate):
                value, tint = found.value, color((MINE, THEIRS)[which])
                y = line + (which - 0.5) * 0.34 * both
                axis.plot([value.low, value.high], [y, y], color=tint, linewidth=2.2, alpha=0.45)
                axis.plot(value.mean, y, "o", color=tint, markersize=6)
    if metric.base is not None:
        axis.axvline(metric.base, color=FAINT, linewidth=0.9, linestyle=(0, (3, 3)))
    axis.set_yticks(range(len(parts)), [scope_label(part) for part in parts] if labels else [""] * len(parts))
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.set_ylim(len(parts) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    for edge in range(1, len(parts)):
        axis.axhline(edge - 0.5, color=LINE, linewidth=0.7)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.margins(x=0.08)
    if metric.share:
        axis.set_xlim(-0.04, 1.04)
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
        percent_axis(axis.xaxis)
