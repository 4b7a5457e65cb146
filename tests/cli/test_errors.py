"""What goes wrong is told in one clear message, with the right exit code, and without a traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from command_lines import DATA, Tell, code_and_err, is_clear

from mmrlhf import cli
from mmrlhf.out_of_memory import advising


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"ppo": {"kl_coeff": 0.1}, "reward": {}}, ["ppo.kl_coeff: unknown key; did you mean 'kl_coef'?"]),
        ({"sft": {"optim": {"learning_rate": 1}}}, ["sft.optim.learning_rate: unknown key"]),
        ({"pp0": {}}, ["pp0: unknown key; did you mean 'ppo'?"]),
        ({"sft": {"batch_size": "many"}}, ["sft.batch_size: ", "'many'"]),
        ({"sft": {"batch_size": 0}}, ["sft.batch_size: ", "greater than or equal to 1", "0"]),
        ({"sft": {"optim": {"lr": -1.0}}}, ["sft.optim.lr: ", "greater than 0"]),
        ({"sft": {"optim": {"lr": float("nan")}}}, ["sft.optim.lr: "]),
        ({"sft": {"batch_size": 0, "epochs": -1}}, ["sft.batch_size: ", "sft.epochs: "]),
        ({"engine": {"mixed_precision": "fp8"}}, ["engine.mixed_precision: ", "'fp8'"]),
        ({"name": "../up"}, ["name: "]),
        ({"engine": {"mixed_precision": "fp16"}}, ["engine.mixed_precision: ", "'no' or 'bf16'", "'fp16'"]),
        ({"sft": {"learn_from": []}}, ["sft.learn_from: ", "at least 1"]),
        ({"sft": {"optim": {"betas": [0.9, 1.0]}}}, ["sft.optim.betas.1: ", "less than 1", "1.0"]),
        ({"ppo": {}}, ["ppo: needs a reward section, or objectives of its own"]),
        ({"evaluate": {}}, ["evaluate: needs a reward section, or ppo.objectives"]),
        ({"reward": {}, "evaluate": {"split": "train"}}, ["evaluate.split: ", "trained on it", "'train'"]),
        ({"reward": {"objectives": ["a", "b", "a"]}}, ["reward.objectives: a is named more than once"]),
        ({"reward": {}, "ppo": {"variants": [{"name": "sft"}]}}, ["ppo.variants.0.name: ", "'sft'"]),
        ({"reward": {}, "ppo": {"variants": [{"name": "base"}]}}, ["ppo.variants.0.name: ", "'base'"]),
        (
            {
                "reward": {"objectives": ["factuality"]},
                "ppo": {
                    "variants": [
                        {"name": "a", "scalarizer": {"type": "weighted_sum", "weights": {"safety": 1}}},
                        {"name": "b", "scalarizer": {"type": "worst_case", "margins": {"beauty": 1}}},
                    ]
                },
            },
            [
                "ppo.variants.0.scalarizer: weighted_sum.weights: no objective safety; there are factuality",
                "ppo.variants.1.scalarizer: worst_case.margins: no objective beauty; there are factuality",
            ],
        ),
        (
            {
                "reward": {},
                "ppo": {"variants": [{"name": "a", "scalarizer": "mmrlhf.config:ModelConfig"}]},
            },
            ["ppo.variants.0.scalarizer: ", "ModelConfig is not made from"],
        ),
        (
            {"model": {"lora": {}}, "sft": {"model": {"freeze_projector": False}}},
            ["sft.model: with the run's model: with lora only adapters are trained"],
        ),
        ({"reward": {}, "ppo": {"batch_size": 5}}, ["batch_size 5 can't be cut into 2 mini-batches"]),
        ({"reward": {}, "ppo": {"variants": [{"name": "a"}, {"name": "a"}]}}, ["two have the same name"]),
        ({"reward": {}, "ppo": {"variants": []}}, ["ppo.variants: "]),
        (
            {"data": {"sources": [{"type": "demonstration"}]}},
            ["data.sources.0: unknown type", "'demonstration'", "'demonstrations'"],
        ),
        ({"data": {"sources": []}}, ["data.sources: ", "at least 1"]),
        ({"data": None}, ["data: needs a section with sources, or the folder"]),
        ({"data": {"sources": DATA["sources"], "sead": 1}}, ["data.sead: unknown key; did you mean 'seed'?"]),
        (
            {"data": {"sources": [{"type": "prompts", "image": 3}]}},
            ["data.sources.0.image: unknown key; did you mean 'images'?"],
        ),
    ],
)
def test_a_config_that_is_wrong(
    tell: Tell, config: Callable[..., Path], sections: dict, words: list[str]
) -> None:
    path = config(**sections)
    code, _, err = tell("run", path)
    is_clear(code, err, str(path), *words)
    assert not (path.parent / "runs").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("sft.batch_sise=3", ["sft.batch_sise: unknown key; did you mean 'batch_size'?"]),
        ("sft.batch_size", ["--set sft.batch_size: write it as a.b=value"]),
        ("=3", ["--set =3: write it as a.b=value"]),
        ("name.first=3", ["name"]),
        ("data.sources.9.count=3", ["'9' is no index of a list of 3"]),
        ("sft.optim={lr: 1", ["--set sft.optim={lr: 1: the value is not valid YAML"]),
        ("sft.batch_size=four", ["sft.batch_size", "'four'"]),
    ],
)
def test_a_setting_that_is_wrong(
    tell: Tell, config: Callable[..., Path], value: str, words: list[str]
) -> None:
    is_clear(*code_and_err(tell("run", config(), "--set", value)), *words)


def test_a_config_that_is_not_there(tell: Tell, config: Callable[..., Path]) -> None:
    there = config("quickstart.yaml")
    code, _, err = tell("run", there.with_name("quickstrat.yaml"))
    is_clear(code, err, "quickstrat.yaml: no such config file.", f"Did you mean {there}?")
    code, _, err = tell("run", "/no/such/folder/run.yaml")
    is_clear(code, err, "/no/such/folder/run.yaml: no such config file.")


@pytest.mark.parametrize("text", ["name: [1, 2", "- a\n- b\n", "", "name: a\nname: b\n"])
def test_a_config_that_is_no_mapping(tell: Tell, tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    code, _, err = tell("sft", "--config", path)
    is_clear(code, err, str(path))


def test_a_config_that_is_no_text(tell: Tell, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    is_clear(*code_and_err(tell("sft", "--config", path)), str(path))
    is_clear(*code_and_err(tell("sft", "--config", tmp_path)), str(tmp_path))


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["run", "a.yaml", "--fast"],
        ["chat", "--temperature", "-1"],
        ["chat", "--max-new-tokens", "x"],
    ],
)
def test_a_command_line_that_is_wrong(tell: Tell, arguments: list[str]) -> None:
    code, _, err = tell(*arguments)
    assert code == 2
    assert "Traceback" not in err
    assert "Usage" in err


@pytest.mark.parametrize("command", ["run", "sft", "reward", "ppo"])
def test_no_config_at_all(tell: Tell, command: str) -> None:
    is_clear(*code_and_err(tell(command)), "which config?", "configs/quickstart.yaml")


def test_options_that_contradict(tell: Tell, config: Callable[..., Path]) -> None:
    is_clear(*code_and_err(tell("sft", "-c", config(), "--resume", "--restart")), "contradict each other")


@pytest.mark.parametrize(
    ("make", "words"), [("nothing", "no such directory"), ("file", "is a file"), ("empty", "no config.json")]
)
def test_a_model_that_is_none(
    tell: Tell, config: Callable[..., Path], tmp_path: Path, make: str, words: str
) -> None:
    model = tmp_path / "model"
    if make == "file":
        model.write_text("x")
    elif make == "empty":
        model.mkdir()
    is_clear(*code_and_err(tell("chat", "--model", model, "Hello?")), str(model), words)
    for command, key in (("sft", "model.path"), ("run", "model.path"), ("run", "reward.model.path")):
        path = config(reward={"objectives": ["factuality"]})
        told = tell(command, "-c", path, "--set", f"{key}={model}")
        is_clear(*code_and_err(told), str(model), words)
        assert not (tmp_path / "runs/r/data").exists()  # told before hours of building


def test_data_that_is_not_built(tell: Tell, config: Callable[..., Path], tmp_path: Path) -> None:
    is_clear(
        *code_and_err(tell("sft", "-c", config(data=str(tmp_path / "data")))),
        "is no built data set",
        "mmrlhf data build",
    )


def test_stages_in_the_wrong_order(tell: Tell, config: Callable[..., Path]) -> None:
    path = config(reward={"objectives": ["factuality"]}, ppo={}, evaluate={})
    is_clear(*code_and_err(tell("ppo", "-c", path)), "reward: that stage isn't done; first: mmrlhf reward")
    is_clear(*code_and_err(tell("evaluate", "tradeoffs", "-c", path)), "that stage isn't done")
    is_clear(*code_and_err(tell("reward", "-c", path)), "sft: that stage isn't done; first: mmrlhf sft")


def test_a_section_that_is_not_there(tell: Tell, config: Callable[..., Path]) -> None:
    for command in ("reward", "ppo"):
        is_clear(*code_and_err(tell(command, "-c", config())), f"the config has no {command}: section")
    is_clear(
        *code_and_err(tell("evaluate", "tradeoffs", "-c", config())), "the config has no evaluate: section"
    )


def test_an_output_folder_that_cannot_be_made(
    tell: Tell, config: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    path = config(output_dir=str(tmp_path / "taken"))
    is_clear(
        *code_and_err(tell("sft", "-c", path)), f"{tmp_path / 'taken' / 'r'}: can't be made", "output_dir"
    )


def test_an_objective_that_nothing_compares(tell: Tell, config: Callable[..., Path]) -> None:
    path = config(
        sft=None, reward={"objectives": ["factuality", "beauty"], "batch_size": 2, "max_answer_tokens": 4}
    )
    is_clear(*code_and_err(tell("reward", "-c", path)), "reward.objectives", "beauty")


def test_prompts_that_are_all_too_long(tell: Tell, config: Callable[..., Path]) -> None:
    code, _, err = tell("sft", "-c", config(sft={"batch_size": 2, "max_prompt_tokens": 8}))
    is_clear(code, err, "(the model reads 512). Raise max_prompt_tokens (up to what the model reads)")


def test_an_unfinished_run_a_finished_one_and_other_settings(
    tell: Tell, config: Callable[..., Path], tmp_path: Path
) -> None:
    path = config(sft={"batch_size": 4, "max_answer_tokens": 6}, engine={"tensorboard": False})
    folder = tmp_path / "runs" / "r" / "sft"
    code, out, _ = tell("sft", "-c", path)
    assert code == 0
    assert out.strip() == str(folder / "model")
    metrics = (folder / "metrics.jsonl").read_text()

    code, _, err = tell("sft", "-c", path)
    assert (code, "sft: kept, it is done" in err) == (0, True)
    code, _, err = tell("sft", "-c", path, "--set", "sft.optim.lr=1e-3", "--set", "seed=5")
    is_clear(code, err, "made with other settings (seed, sft.optim.lr)", "--restart", "--set name=")
    assert (
        yaml.safe_load((tmp_path / "runs/r/config.yaml").read_text())["seed"] == 0
    )  # that of the run that is there

    state = (folder / "stage.json").read_text()
    (folder / "stage.json").write_text(state.replace('"done": true', '"done": false'))
    code, _, err = tell("sft", "-c", path)
    is_clear(code, err, f"{folder}: is unfinished", "--resume", "--restart")
    assert tell("sft", "-c", path, "--resume")[0] == 0
    assert (folder / "metrics.jsonl").read_text() == metrics

    (folder / "stage.json").write_text("[]")
    is_clear(*code_and_err(tell("sft", "-c", path)), "stage.json: is damaged", "--restart")
    (folder / "stage.json").write_text("{")
    is_clear(*code_and_err(tell("sft", "-c", path)), "stage.json: is damaged", "--restart")
    assert tell("sft", "-c", path, "--restart")[0] == 0
    assert (folder / "metrics.jsonl").read_text() == metrics


def fail(error: BaseException) -> Callable[..., None]:
    def raise_it(*arguments: object) -> None:
        raise error

    return raise_it


def test_a_bug_is_told_as_ours(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.config_help.print_settings", fail(ZeroDivisionError("oops")))
    code, _, err = tell("config")
    assert code == 1
    assert "Traceback" in err
    assert (
        err.rstrip()
        .split("\n")[-1]
        .startswith("This is a fault in mmrlhf, not in your input: ZeroDivisionError")
    )


def test_a_full_disk_a_stop_and_ctrl_c(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from data_tools.errors import RunError
    from mmrlhf.training.engine import Stopped

    cases: list[tuple[BaseException, int, str]] = [
        (OSError(errno.ENOSPC, "No space left", "x/y"), 2, "error: the disk is full (writing x/y)"),
        (RunError("the loss is nan"), 1, "error: the loss is nan"),
        (
            Stopped("ppo is saved at step 3 of 6"),
            143,
            "ppo is saved at step 3 of 6; the same command with --resume goes on",
        ),
        # what stands behind && must not begin
        (Stopped("sft is saved at step 1 of 2", interrupted=True), 130, "sft is saved at step 1 of 2; the"),
        (KeyboardInterrupt(), 130, ""),
    ]
    for error, expected, words in cases:
        monkeypatch.setattr("mmrlhf.config_help.print_settings", fail(error))
        code, _, err = tell("config")
        assert code == expected
        assert words in err
        assert "Traceback" not in err


def test_main_exits_with_the_code() -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["config", "nothing"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("work", "settings"),
    [
        ("sft", ["sft.micro_batch_size", "sft.micro_batch_tokens", "model.gradient_checkpointing"]),
        ("reward", ["reward.micro_batch_size", "reward.micro_batch_tokens"]),
        ("ppo", ["ppo.micro_batch_size", "ppo.micro_batch_tokens", "ppo.generate_batch_size"]),
        ("evaluate", ["evaluate.generate_batch_size", "evaluate.micro_batch_tokens"]),
        ("evaluate reward", ["evaluate.micro_batch_size", "evaluate.micro_batch_tokens"]),
        ("evaluate reward --model", ["--batch-size"]),
    ],
)
def test_out_of_memory_is_told_with_the_settings_that_are_read(
    tell: Tell, monkeypatch: pytest.MonkeyPatch, work: str, settings: list[str]
) -> None:
    def run(*args: object) -> None:
        with advising(work):
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mmrlhf.config_help.print_settings", run)
    code, _, err = tell("config")
    is_clear(code, err, "memory", *settings)


def test_out_of_memory_is_told_anywhere(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mmrlhf.config_help.print_settings", fail(torch.OutOfMemoryError("CUDA out of memory"))
    )
    code, _, err = tell("config")
    is_clear(code, err, "memory", "a smaller model")
