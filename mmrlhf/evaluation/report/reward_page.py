"""What was measured of a reward model as a page of its own; a run's report has the same section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from data_tools.atomic import write_text
from data_tools.pages.templates import environment
from mmrlhf.evaluation.report import figures
from mmrlhf.evaluation.report.reward_tables import SINGLES, how_measured, unmeasured

READERS = {"itself": "itself, blind", "text_model": "text-only model"}


def write_reward_page(path: Path, judged: dict[str, Any], title: str) -> Path:
    """Writes the page and returns its path. `judged` is what `reward.json` holds."""
    page = environment("mmrlhf.evaluation.report").get_template("reward_page.html")
    write_text(path, page.render(title=title, judged=judged, **reward_context(judged)))
    return path


def reward_context(judged: dict[str, Any]) -> dict[str, Any]:
    """What the section's template needs beside `judged`."""

    def conditions(kind: str) -> list[str]:
        measured = {name for of in judged[kind].values() for name in of}
        return [name for name in figures.SHOWN if name in measured]

    return {
        "plots": {name: Markup(svg) for name, svg in figures.reward_plots(judged).items()},
        "widths": figures.plot_widths(None, judged),
        "of_text": any("text" in by_modality for by_modality in judged["accuracy"].values()),
        "shown": figures.SHOWN,
        "degraded": conditions("gains"),
        "preferred": conditions("image_preference"),
        "readers": [(key, name) for key, name in READERS.items() if key in judged["blind_wrong"]],
        "score_names": list(dict.fromkeys(name for of in judged.get("scores", {}).values() for name in of)),
        "notes": how_measured(judged),
        "singles": _singles(judged),
        "singles_shown": [name for name in figures.SHOWN if name in judged["conditions"]],
        "unmeasured": unmeasured(judged),
        "between": list(dict.fromkeys([*judged["agreement"], *judged["disagreement"], *judged["gradients"]])),
    }


def _singles(judged: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """A row for each head, measure and kind of prompt that single responses are judged on: these, and the estimates by
    what is shown."""
    return [
        (name, SINGLES[measure], modality, shown)
        for name, measures in judged["singles"].items()
        for measure, by in measures.items()
        for modality, shown in by.items()
    ]
