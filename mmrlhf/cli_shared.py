"""What the commands share: the options of a run, opening it, and what it ends with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_tools.errors import UserError
from data_tools.paths import user_path
from data_tools.printing import PlainConsole

if TYPE_CHECKING:
    from mmrlhf.config import RunConfig
    from mmrlhf.pipeline import Run

ConfigFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="CONFIG", help="YAML file of a run, such as configs/quickstart.yaml", parser=user_path
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="the same, as an option", parser=user_path)
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="override a setting: --set ppo.steps=50 (any number of times)"),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with what is unfinished; keep what is done")]
Restart = Annotated[
    bool, typer.Option("--restart", help="delete what these stages made before and begin anew")
]


def read_run(config: Path, overrides: list[str] | None) -> RunConfig:
    """The settings of a run; raises UserError with every mistake."""
    from data_tools.config import load_config
    from mmrlhf.config import RunConfig

    return load_config(config, RunConfig, overrides)


def open_run(
    config: Path | None, option: Path | None, overrides: list[str] | None, resume: bool, restart: bool
) -> Run:
    """The run of a config file, its folder made.

    Raises:
        UserError: no config is named, it has mistakes, or the options contradict each other.
    """
    config = config or option
    if config is None:
        raise UserError("which config? Name one, such as configs/quickstart.yaml")
    if resume and restart:
        raise UserError("--resume and --restart contradict each other")
    settings = read_run(config, overrides)
    quiet_libraries()
    from mmrlhf.pipeline import Run, RunMode

    return Run(settings, RunMode(resume, restart))


def show_summary(run: Run) -> None:
    """Prints the table that a run's evaluation ends with."""
    import json

    from mmrlhf.evaluation.report import summary_table

    out = PlainConsole()
    out.print(summary_table(json.loads((run.folder / "evaluate" / "tradeoffs.json").read_text())))
    out.print(f"Report: {run.folder / 'report.html'}", soft_wrap=True)


def quiet_libraries() -> None:
    """Keeps progress bars and notices of libraries off the screen; our own bars say how far things are."""
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft 0.21 asks for a property that transformers 5.23 has renamed
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
