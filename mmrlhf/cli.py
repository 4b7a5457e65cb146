"""The command line. Exit codes: 0 done (or saved and stopped by SIGTERM), 1 our fault, 2 the user's, 130 Ctrl-C, also
where it was saved first: what stands behind `&&` isn't done then."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_tools.cli import app as data_app
from data_tools.errors import RunError, Stopped, UserError
from mmrlhf import cli_options as options

if TYPE_CHECKING:
    from mmrlhf.config import RunConfig
    from mmrlhf.pipeline import Run

app = typer.Typer(
    name="mmrlhf",
    help="Align vision-language models with human preferences: data, reward models, PPO and their trade-offs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure policies and reward models.")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")

ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="YAML file of a run, such as configs/quickstart.yaml")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="the same, as an option")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="override a setting: --set ppo.steps=50 (any number of times)"),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with what is unfinished; keep what is done")]
Restart = Annotated[
    bool, typer.Option("--restart", help="delete what these stages made before and begin anew")
]


def _read(config: Path, overrides: list[str] | None) -> RunConfig:
    from data_tools.config import load_config
    from mmrlhf.config import RunConfig

    return load_config(config, RunConfig, overrides)


def _open(
    config: Path | None, option: Path | None, overrides: list[str] | None, resume: bool, restart: bool
) -> Run:
    """The run of a config file, its folder made."""
    config = config or option
    if config is None:
        raise UserError("which config? Name one, such as configs/quickstart.yaml")
    if resume and restart:
        raise UserError("--resume and --restart contradict each other")
    settings = _read(config, overrides)
    quiet_libraries()
    from mmrlhf.pipeline import Run, RunMode

    return Run(settings, RunMode(resume, restart))


@app.command("run")
def run_all(
    config: ConfigFile = None,
    option: ConfigOption = None,
    overrides: Sets = None,
    resume: Resume = False,
    restart: Restart = False,
) -> None:
    """Do everything a config says: data, SFT, reward model, PPO, evaluation, report.

    Examples:

        mmrlhf run configs/quickstart.yaml

        mmrlhf run configs/quickstart.yaml --resume

        mmrlhf run configs/quickstart.yaml --set name=longer --set ppo.steps=60
    """
    run = _open(config, option, overrides, resume, restart)
    report = run.all()
    if run.accelerator.is_main_process and report:
        _show_summary(run)


STAGES = {
    "sft": "Supervised fine-tuning. Example: mmrlhf sft --config configs/quickstart.yaml",
    "reward": "Train the reward model. Example: mmrlhf reward --config configs/quickstart.yaml --set reward.epochs=2",
    "ppo": "Train one policy for each variant. Example: mmrlhf ppo --config configs/quickstart.yaml --resume",
}


def _add_stage(name: str, about: str) -> None:
    """A command that runs one stage and says where its models are."""

    @app.command(name, help=about)
    def stage(
        config: ConfigFile = None,
        option: ConfigOption = None,
        overrides: Sets = None,
        resume: Resume = False,
        restart: Restart = False,
    ) -> None:
        run = _open(config, option, overrides, resume, restart)
        getattr(run, name)()
        if run.accelerator.is_main_process:
            for made in run.stage_names(name):
                typer.echo(f"{run.folder / made / 'model'}")


for _name, _about in STAGES.items():
    _add_stage(_name, _about)


@evaluate_app.command("tradeoffs")
def tradeoffs(config: ConfigFile = None, option: ConfigOption = None, overrides: Sets = None) -> None:
    """Measure every policy of a run on every objective and write the report.

    Example: mmrlhf evaluate tradeoffs --config configs/quickstart.yaml
    """
    run = _open(config, option, overrides, resume=True, restart=False)
    run.evaluate()
    if run.accelerator.is_main_process:
        _show_summary(run)


@evaluate_app.command("reward")
def evaluate_reward(
    config: ConfigFile = None,
    option: ConfigOption = None,
    overrides: Sets = None,
    model: options.RewardFolder = None,
    data: options.DataFolder = None,
    split: options.Split = "test",
    benchmark: options.Benchmark = None,
    rows: options.Rows = None,
    images: options.Images = None,
    objective: options.Objectives = None,
    pairs: options.Pairs = None,
    conditions: options.Conditions = None,
    gradients: options.Gradients = None,
    text_model: options.TextModel = None,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    out: options.Out = None,
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
    run = _open(config, option, overrides, resume=True, restart=False)
    judged, page = run.evaluate_reward(changes, out)
    if run.accelerator.is_main_process:
        _show_reward((judged, page))


@app.command()
def chat(
    model: Annotated[str, typer.Option("--model", "-m", help="model directory, hub id, or 'tiny'")] = "tiny",
    image: Annotated[Path | None, typer.Option("--image", "-i", help="picture to talk about")] = None,
    question: Annotated[str | None, typer.Argument(help="what to ask; nothing: ask at a prompt")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest answer")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="longest answer")] = 256,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="what counts, as objective=number,...: for a preference-conditioned policy",
        ),
    ] = None,
) -> None:
    """Ask a model about a picture.

    Example: mmrlhf chat --model runs/quickstart/ppo/balanced/model --image picture.png "What is in the picture?"
    """
    quiet_libraries()
    from mmrlhf.chat import converse

    converse(model, image, question, temperature, max_new_tokens, weights)


@app.command("serve-reward")
def serve_reward(
    model: Annotated[Path, typer.Argument(help="folder of a reward model", metavar="MODEL")],
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0: all of this machine's")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8400,
    token_env: Annotated[
        str | None, typer.Option(help="environment variable with the bearer token that requests must bring")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="answers judged at a time")] = 32,
    max_batch_tokens: Annotated[int, typer.Option(min=1, help="padded tokens of one forward")] = 16384,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="how long an answer waits for others")] = 5.0,
    max_queue: Annotated[int, typer.Option(min=1, help="answers in the server at a time; then: 503")] = 256,
    max_request_mb: Annotated[float, typer.Option(min=0.001, help="size of a request; above: 413")] = 32.0,
    max_pixels: Annotated[int, typer.Option(min=1, help="width x height of an image")] = 16_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="images of a prompt")] = 8,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="tokens of a prompt and its answer, with images")
    ] = 4096,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...; nothing: a GPU if there is one")
    ] = None,
) -> None:
    """Serve a reward model over HTTP (docs/serving.md); needs mmrlhf[serve].

    Examples:

        mmrlhf serve-reward runs/quickstart/reward/model

        REWARD_TOKEN=... mmrlhf serve-reward runs/quickstart/reward/model --host 0.0.0.0 --token-env REWARD_TOKEN
    """
    quiet_libraries()
    from mmrlhf.serving.serve import serve
    from mmrlhf.serving.settings import ServerSettings

    settings = ServerSettings(
        max_batch=max_batch,
        max_batch_tokens=max_batch_tokens,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_request_mb=max_request_mb,
        max_pixels=max_pixels,
        max_images=max_images,
        max_tokens=max_tokens,
    )
    serve(model, host, port, settings, token_env, device)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="also check this config")] = None,
) -> None:
    """Check this machine and installation: versions, devices, memory, the bundled model."""
    quiet_libraries()
    from mmrlhf.doctor import examine

    if config:
        _read(config, None)
    if not examine():
        raise typer.Exit(1)


@app.command("config")
def show_config(
    name: Annotated[
        str | None, typer.Argument(help="a section, such as ppo or ppo.optim; nothing: the whole")
    ] = None,
) -> None:
    """Print every setting with its default and what it does. Example: mmrlhf config ppo"""
    from mmrlhf.config_help import print_settings

    print_settings(name)


def _show_summary(run: Run) -> None:
    import json

    from rich.console import Console

    from mmrlhf.evaluation.report import summary_table

    out = Console()
    out.print(summary_table(json.loads((run.folder / "evaluate" / "tradeoffs.json").read_text())))
    out.print(f"Report: {run.folder / 'report.html'}", soft_wrap=True)


def _show_reward(measured: tuple[dict[str, Any], Path]) -> None:
    from rich.console import Console

    from mmrlhf.evaluation.report import reward_tables

    out, (judged, page) = Console(), measured
    for table in reward_tables(judged):
        out.print(table)
    out.print(f"Report: {page}", soft_wrap=True)


def quiet_libraries() -> None:
    """Keeps progress bars and notices of libraries off the screen; our own bars say how far things are."""
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft 0.21 asks for a property that transformers 5.23 has renamed
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main(arguments: list[str] | None = None) -> None:
    """The program: runs the command line and turns what goes wrong into a message and an exit code."""
    sys.exit(_main(arguments))


def _main(arguments: list[str] | None) -> int:
    try:
        app(arguments)
    except SystemExit as stop:  # typer's own end, and its answer to a wrong option (2)
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        _tell("stopped")
        return 130
    except UserError as error:
        _tell(f"error: {error}")
        return 2
    except Stopped as stop:
        _tell(f"{stop}; the same command with --resume goes on")
        return 130 if stop.interrupted else 0
    except RunError as error:
        _tell(f"error: {error}")
        return 1
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _tell(
                f"error: the disk is full (writing {error.filename or 'a file'}); free some space, then --resume"
            )
            return 2
        return _bug(error)
    except Exception as error:
        # the one place that catches everything: it only turns a bug into a message with its traceback
        if type(error).__name__ == "OutOfMemoryError":
            _tell(
                f"error: the GPU's memory is full ({error}); a smaller micro_batch_size or ppo.generate_batch_size, "
                "lora or model.gradient_checkpointing need less. Then --resume"
            )
            return 2
        return _bug(error)
    return 0


def _bug(error: BaseException) -> int:
    traceback.print_exception(error)
    _tell(
        f"This is a fault in mmrlhf, not in your input: {type(error).__name__}. Please report it with the lines above."
    )
    return 1


def _tell(message: Any) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    main()
