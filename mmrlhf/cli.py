"""The command line. Exit codes: 0 done, 1 our fault, 2 the user's, 130 Ctrl-C and 143 SIGTERM, also where the run was
saved first: what stands behind `&&` isn't done then."""

from __future__ import annotations

import errno
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from data_tools.cli import app as data_app
from data_tools.errors import RunError, Stopped, UserError
from data_tools.paths import expand_path, user_path
from data_tools.printing import mute_libraries, say
from mmrlhf.cli_evaluate import app as evaluate_app
from mmrlhf.cli_shared import (
    ConfigFile,
    ConfigOption,
    Restart,
    Resume,
    Sets,
    open_run,
    quiet_libraries,
    read_run,
    show_summary,
)
from mmrlhf.out_of_memory import advice, is_out_of_memory
from mmrlhf.serving import defaults

app = typer.Typer(
    name="mmrlhf",
    help="Align vision-language models with human preferences: data, reward models, PPO and their trade-offs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")


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
    run = open_run(config, option, overrides, resume, restart)
    report = run.all()
    if run.accelerator.is_main_process and report:
        show_summary(run)


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
        run = open_run(config, option, overrides, resume, restart)
        getattr(run, name)()
        if run.accelerator.is_main_process:
            for made in run.stage_names(name):
                say(run.folder / made / "model")


for _name, _about in STAGES.items():
    _add_stage(_name, _about)


@app.command()
def chat(
    model: Annotated[
        str, typer.Option("--model", "-m", help="model directory, hub id, or 'tiny'", parser=expand_path)
    ] = "tiny",
    image: Annotated[
        Path | None, typer.Option("--image", "-i", help="picture to talk about", parser=user_path)
    ] = None,
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
    model: Annotated[
        Path, typer.Argument(help="folder of a reward model", metavar="MODEL", parser=user_path)
    ],
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0: all of this machine's")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8400,
    token_env: Annotated[
        str | None, typer.Option(help="environment variable with the bearer token that requests must bring")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="answers judged at a time")] = defaults.MAX_BATCH,
    max_batch_tokens: Annotated[
        int, typer.Option(min=1, help="padded tokens of one forward")
    ] = defaults.MAX_BATCH_TOKENS,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="how long an answer waits for others")
    ] = defaults.MAX_WAIT_MS,
    max_queue: Annotated[
        int, typer.Option(min=1, help="answers in the server at a time; then: 503")
    ] = defaults.MAX_QUEUE,
    max_request_mb: Annotated[
        float, typer.Option(min=0.001, help="size of a request; above: 413")
    ] = defaults.MAX_REQUEST_MB,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="width x height of an image; photos may have more")
    ] = defaults.MAX_PIXELS,
    max_request_pixels: Annotated[
        int, typer.Option(min=1, help="pixels, as decoded, of all images of a request together; above: 413")
    ] = defaults.MAX_REQUEST_PIXELS,
    max_images: Annotated[int, typer.Option(min=1, help="images of a prompt")] = defaults.MAX_IMAGES,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="tokens of a prompt and its answer, with images")
    ] = defaults.MAX_TOKENS,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1 ...; nothing: a GPU if there is one")
    ] = None,
) -> None:
    """Serve a reward model over HTTP (docs/serving.md); needs mmrlhf\\[serve].

    Examples:

        mmrlhf serve-reward runs/quickstart/reward/model

        REWARD_TOKEN=... mmrlhf serve-reward runs/quickstart/reward/model --host 0.0.0.0 --token-env REWARD_TOKEN
    """
    quiet_libraries()
    from data_tools.config import parse_config
    from mmrlhf.serving.serve import serve
    from mmrlhf.serving.settings import ServerSettings

    settings = parse_config(
        {
            "max_batch": max_batch,
            "max_batch_tokens": max_batch_tokens,
            "max_wait_ms": max_wait_ms,
            "max_queue": max_queue,
            "max_request_mb": max_request_mb,
            "max_pixels": max_pixels,
            "max_request_pixels": max_request_pixels,
            "max_images": max_images,
            "max_tokens": max_tokens,
        },
        ServerSettings,
        "serve-reward",
    )
    serve(model, host, port, settings, token_env, device)


@app.command()
def doctor(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="also check this config, and the models and objectives that it names",
            parser=user_path,
        ),
    ] = None,
) -> None:
    """Check this machine and installation: versions, devices, memory, the bundled model."""
    quiet_libraries()
    from mmrlhf.doctor import examine

    if config:
        from mmrlhf.run_checks import check_start

        check_start(read_run(config, None))
    if not examine():
        raise typer.Exit(1)


@app.command("config")
def show_config(
    name: Annotated[
        str | None,
        typer.Argument(help="a section or setting, such as ppo or ppo.optim.lr; nothing: the whole"),
    ] = None,
) -> None:
    """Print every setting with its default and what it does. Example: mmrlhf config ppo"""
    from mmrlhf.config_help import print_settings

    print_settings(name)


def main(arguments: list[str] | None = None) -> None:
    """The program: runs the command line and turns what goes wrong into a message and an exit code."""
    mute_libraries()
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
        return 130 if stop.interrupted else 143
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
        if is_out_of_memory(error):
            _tell(f"error: the GPU's memory is full ({error}); {advice(error)}")
            return 2
        return _bug(error)
    return 0


def _bug(error: BaseException) -> int:
    _tell("".join(traceback.format_exception(error)))
    _tell(
        f"This is a fault in mmrlhf, not in your input: {type(error).__name__}. Please report it with the lines above."
    )
    return 1


def _tell(message: object) -> None:
    say(message, err=True)


if __name__ == "__main__":
    main()
