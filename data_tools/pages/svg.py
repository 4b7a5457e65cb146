"""Plots as SVG that stands inside a page and follows its light or dark colors.

matplotlib draws with placeholder colors, which are replaced by the page's CSS variables. Texts stay texts.
"""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK, FAINT, LINE = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0404{i:02d}" for i in range(8))
VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", LINE: "var(--line)"} | {
    color: f"var(--series-{i})" for i, color in enumerate(SERIES)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmrlhf",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def color(index: int) -> str:
    """The color of series `index`; they repeat after eight."""
    return SERIES[index % len(SERIES)]


def new_figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches with its axes, row by row."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def to_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element for the page; the same bytes for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # inside HTML the namespaces are known, and "pt" would fix the size
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=2)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    for placeholder, variable in VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg


def percent_axis(axis: Any) -> None:
    """Shows shares of 1 as percents on an x or y axis."""
    axis.set_major_formatter(lambda value, _: f"{value:.0%}")
