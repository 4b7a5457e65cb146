"""The audits' report: one HTML file that holds everything, plots and thumbnails too, and no script.

Prompts and answers are untrusted text: the template escapes all of it, and only our own plots are let through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.atomic import write_text, writing_to
from data_tools.audits.base import AuditResult, Cell, Example, Metric, scope_label
from data_tools.audits.run import Report, beside, chosen_audits, known_metrics
from data_tools.images import ImageError, thumbnail
from data_tools.intervals import Estimate
from data_tools.printing import styled
from data_tools.schema import PreferenceRecord

if TYPE_CHECKING:
    from rich.table import Table

THUMBNAIL = 168  # pixels
PIXELS = 100  # of an inch of a plot
SHOWN_CHARACTERS = 700  # of a text
SHOWN_ANSWERS = 4


def write_reports(
    report: Report, folder: Path, other: Report | None = None, failed: Sequence[str] = ()
) -> tuple[Path, Path]:
    """Writes `audit.json` and `audit.html` into the folder, which is made, and returns their paths. `other` stands
    beside the report; `failed` is what the conditions said.

    Raises:
        UserError: the folder can't be written to.
    """
    row = {**report.to_json(), "failed": list(failed)}
    if other is not None:
        row["compared_with"] = other.to_json()
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(
            folder / "audit.json", json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
        write_text(folder / "audit.html", page(report, other, failed))
    return folder / "audit.json", folder / "audit.html"


def page(report: Report, other: Report | None = None, failed: Sequence[str] = ()) -> str:
    """The HTML page."""
    from data_tools.pages.templates import environment

    made = environment("data_tools.audits")
    made.filters["cell"], made.filters["part"] = show_cell, scope_label
    made.filters["found"] = lambda found, metrics: (
        show_number(found.value, metrics[found.metric]) if found else "–"
    )
    others = {result.name: result for result in other.results} if other else {}
    return made.get_template("audit.html").render(
        name=report.data.name,
        other=other.data.name if other else None,
        records=report.records,
        seed=report.data.options.seed,
        failed=failed,
        sections=[_section(report, result, others.get(result.name)) for result in report.results],
        metrics=known_metrics([result.name for result in report.results]),
    )


def _section(report: Report, result: AuditResult, other: AuditResult | None) -> dict[str, Any]:
    return {
        "result": result,
        "plots": _plots(result, other),
        "compared": beside(result.findings, other.findings) if other else [],
        "other_says": other.says if other else "",
        "examples": [_example(report, example) for example in result.examples],
    }


def _plots(result: AuditResult, other: AuditResult | None) -> list[tuple[str, Any, int]]:
    """Title, SVG and width in pixels of each plot, that of the numbers first."""
    import matplotlib
    from markupsafe import Markup

    from data_tools.audits.plots import forest
    from data_tools.pages.svg import STYLE, new_figure, to_svg

    found = []
    svg, width = forest(
        beside(result.findings, other.findings if other else ()), known_metrics([result.name])
    )
    if svg:
        found.append(("", Markup(svg), round(PIXELS * width)))
    for plot in result.plots:
        with matplotlib.rc_context(STYLE):
            figure, (axes,) = new_figure(1, 1, plot.width, plot.height)
            plot.draw(axes)
            found.append((plot.title, Markup(to_svg(figure)), round(PIXELS * plot.width)))
    return found


def show_number(value: float | Estimate, metric: Metric) -> str:
    """A number for the terminal and the page: "54.2 % (50.1–58.3)", or as it is where it is no share."""
    parts = (value.mean, value.low, value.high) if isinstance(value, Estimate) else (float(value),)
    texts = [f"{100 * part:.1f}" if metric.share else f"{part:.3f}" for part in parts]
    first = f"{texts[0]} %" if metric.share else texts[0]
    return first if len(texts) == 1 else f"{first} ({texts[1]}–{texts[2]})"


def show_cell(cell: Cell) -> str:
    """A cell of a table as text."""
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return show_number(cell, Metric(""))
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _example(report: Report, example: Example) -> dict[str, Any]:
    return {
        "why": example.why,
        "records": [_shown(report.data.records(split)[index]) for split, index in example.records],
    }


def _shown(record: PreferenceRecord) -> dict[str, Any]:
    """A record as the template shows it: thumbnails, prompt, and answers with what was judged."""
    said: dict[int, list[str]] = {}
    for comparison in record.pairs():
        if not comparison.tie:
            said.setdefault(comparison.better, []).append(f"better ({comparison.objective})")
    for rating in record.ratings:
        said.setdefault(rating.response, []).append(f"{rating.objective} {rating.value:g} of {rating.high:g}")
    turns = [message.text for message in record.prompt]
    if len(turns) > 1:  # who says what
        turns = [f"{message.role}: {message.text}" for message in record.prompt]
    return {
        "id": record.id,
        "split": record.split,
        "source": record.source,
        "images": [image for ref in record.images[:3] if (image := _thumbnail(ref))],
        "prompt": _cut("\n".join(turns)),
        "answers": [
            (_cut(response.text), list(dict.fromkeys(said.get(index, []))))
            for index, response in enumerate(record.responses[:SHOWN_ANSWERS])
        ],
    }


def _thumbnail(ref: Any) -> str | None:
    try:
        return thumbnail(ref, THUMBNAIL)
    except ImageError:
        return None  # a page of audits is no place to stop at a picture; `data check` tells of it


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 4]} ..."


def summary(report: Report, other: Report | None = None) -> Table:
    """The main numbers of each audit as a table for the terminal, beside those of `other`."""
    from rich.table import Table

    metrics: Mapping[str, Metric] = known_metrics()
    table = Table("metric and part", title="Audit")
    for data in (report.data, other.data) if other else (report.data,):
        table.add_column(data.name, no_wrap=True)
    others = {result.name: result.findings for result in other.results} if other else {}
    for result in report.results:
        rows = beside(result.findings, others.get(result.name, ()))
        for name in headline(result):
            of_metric = [row for row in rows if row[0] == name]
            if of_metric:
                table.add_row(styled(name, "bold"))
            for _, scope, *pair in of_metric:
                cells = [show_number(item.value, metrics[name]) if item else "-" for item in pair]
                table.add_row(f"  {scope_label(scope)}", *cells[: 2 if other else 1])
        table.add_section()
    return table


def headline(result: AuditResult) -> tuple[str, ...]:
    """The metrics of an audit that the terminal shows."""
    (audit,) = chosen_audits([result.name])
    return audit.headline or tuple(audit.metrics)
