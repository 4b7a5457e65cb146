"""`mmrlhf evaluate`: the commands that measure policies and reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from data_tools.paths import expand_path, user_path
from data_tools.printing import PlainConsole
from mmrlhf.cli_shared import ConfigFile, ConfigOption, Sets, open_run, quiet_libraries, show_summary

app = typer.Typer(no_args_is_help=True, help="Measure policies and reward models.")

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="folder of a reward model, for no run's", parser=expand_path),
]
Data = Annotated[Path | None, typer.Option(help="with --model: folder of a built data set", parser=user_path)]
Split = Annotated[str | None, typer.Option(help="with --data: its split; nothing: test")]
BenchmarkName = Annotated[
    str | None,
    typer.Option(help="with --model: vl_rewardbench, multimodal_rewardbench or mm_rlhf_rewardbench"),
]
Rows = Annotated[
    list[Path] | None,
    typer.Option(
        help="the benchmark's rows: a file or folder of JSON, Parquet or tars (any number of times)",
        parser=user_path,
    ),
]
Images = Annotated[
    Path | None, typer.Option(help="folder of the rows' images; nothing: the rows' own", parser=user_path)
]
Objective = Annotated[
    list[str] | None,
    typer.Option(help="head to score a benchmark by, or mean (any number of times); nothing: all of them"),
]
Pairs = Annotated[
    int | None, typer.Option(min=1, help="records at most; nothing: the config's, 512, or a whole benchmark")
]
MaxPromptTokens = Annotated[
    int | None,
    typer.Option(
        min=1, help="longer prompts are left out; nothing: the config's, 1024, or of a benchmark none"
    ),
]
MaxAnswerTokens = Annotated[
    int | None,
    typer.Option(min=1, help="longer answers are cut; nothing: the config's, 512, or of a benchmark none"),
]
Conditions = Annotated[
    str | None,
    typer.Option(help="what is shown beside the true image: none,swapped,crop,noise; nothing: all"),
]
Gradients = Annotated[
    int | None, typer.Option(min=0, help="pairs on which the heads' gradients are compared; nothing: none")
]
TextModel = Annotated[
    str | None,
    typer.Option(
        help="folder of a reward model trained on text: where it fails, the image is needed",
        parser=expand_path,
    ),
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="records of one batch; nothing: 64")]
Seed = Annotated[int | None, typer.Option(min=0, help="draws records, other images and intervals")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="folder of reward.json and reward.html; nothing: the run's, or reward_evaluation",
        parser=user_path,
    ),
]


@app.command("tradeoffs")
def tradeoffs(config: ConfigFile = None, option: ConfigOption = None, overrides: Sets = None) -> None:
    """Measure every policy of a run on every objective and write the report.

    Example: mmrlhf evaluate tradeoffs --config configs/quickstart.yaml
    """
    run = open_run(config, option, overrides, resume=True, restart=False)
    run.evaluate()
    if run.accelerator.is_main_process:
        show_summary(run)


@app.command("reward")
def evaluate_reward(
    config: ConfigFile = None,
    option: ConfigOption = None,
    overrides: Sets = None,
    model: Model = None,
    data: Data = None,
    split: Split = None,
    benchmark: BenchmarkName = None,
    rows: Rows = None,
    images: Images = None,
    objective: Objective = None,
    pairs: Pairs = None,
    max_prompt_tokens: MaxPromptTokens = None,
    max_answer_tokens: MaxAnswerTokens = None,
    conditions: Conditions = None,
    gradients: Gradients = None,
    text_model: TextModel = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    out: Out = None,
) -> None:
    """Measure a reward model: what it gets right, whether it looks, how sure it may be (docs/evaluation.md).

    Examples:

        mmrlhf evaluate reward --config configs/quickstart.yaml

        mmrlhf evaluate reward --model runs/x/reward/model --data my_data --split test

        mmrlhf evaluate reward --model runs/x/reward/model --benchmark vl_rewardbench --rows rows.parquet
    """
    quiet_libraries()
    from mmrlhf.evaluation.reward.command import Asked, check_conditions, measure

    chosen = {
        "pairs": pairs,
        "max_prompt_tokens": max_prompt_tokens,
        "max_answer_tokens": max_answer_tokens,
        "gradients": gradients,
        "text_model": text_model,
        "batch_size": batch_size,
        "seed": seed,
    }
    changes: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if conditions is not None:
        changes["conditions"] = check_conditions(conditions.split(","))
    asked = Asked(model, data, split, benchmark, tuple(rows or ()), images, tuple(objective or ()))
    asked.check(has_config=bool(config or option))
    if model is not None:
        _show_reward(measure(asked, changes, out))
        return
    run = open_run(config, option, overrides, resume=True, restart=False)
    judged, page = run.evaluate_reward(changes, out)
    if run.accelerator.is_main_process:
        _show_reward((judged, page))


def _show_reward(measured: tuple[dict[str, Any], Path]) -> None:
    from mmrlhf.evaluation.report import reward_tables

    out, (judged, page) = PlainConsole(), measured
    for table in reward_tables(judged):
        out.print(table)
    out.print(f"Report: {page}", soft_wrap=True)
