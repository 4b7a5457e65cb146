"""Chat, doctor, help and config do what they say."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_lines import Tell, code_and_err, is_clear

from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "circle.png"
    path.write_bytes(to_png(Scene((SceneObject("circle", "red", "large", 0.5, 0.5),))))
    return path


def test_pictures_that_cannot_be_read(tell: Tell, tmp_path: Path, picture: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture.read_bytes()[:100])
    words = tmp_path / "words.png"
    words.write_text("not a picture")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    for path in (cut, words, empty, tmp_path, tmp_path / "nowhere.png"):
        is_clear(*code_and_err(tell("chat", "--image", path, "What is it?")), str(path))


def test_chat_answers(tell: Tell, picture: Path) -> None:
    code, out, err = tell("chat", "--model", "tiny", "--image", picture, "What color is the circle?")
    assert code == 0, err
    assert out.count("\n") == 1
    assert out.strip()
    code, sampled, _ = tell("chat", "--temperature", "1", "--max-new-tokens", "3", "Hello?")
    assert code == 0
    assert sampled


def test_chat_reads_questions_from_a_pipe(tell: Tell, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns; the second is asked with the first in front of it."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("What color is the circle?\nWhat shape is it?\n"))
    code, out, err = tell("chat", "--image", picture, "--max-new-tokens", "8")
    assert code == 0, err
    assert out.count("\n") == 2


def test_the_doctor_is_content(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled model is asked what it sees; what it says is not ours to test here."""
    monkeypatch.setattr("mmrlhf.models.vlm.decode", lambda vlm, ids: "Red.")
    code, out, err = tell("doctor")
    assert code == 0, out + err
    for name in ("python", "torch", "transformers", "HEIC images", "AVIF images", "device", "bundled model"):
        assert name in out
    assert "HEIC images read" in " ".join(out.split()) or "pip install 'mmrlhf[heic]'" in " ".join(
        out.split()
    )


def test_the_doctor_reads_a_config_too(tell: Tell, config: Callable[..., Path]) -> None:
    is_clear(*code_and_err(tell("doctor", "--config", config(sft={"batch": 3}))), "sft.batch: unknown key")


def test_the_doctor_looks_for_the_models_of_a_config(tell: Tell, config: Callable[..., Path]) -> None:
    path = config(model={"path": "/nowhere/at/all"})
    is_clear(*code_and_err(tell("doctor", "--config", path)), "model /nowhere/at/all: no such directory")


def test_the_doctor_finds_a_package_missing(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrlhf.doctor.PACKAGES", ["no-such-package"])
    code, out, _ = tell("doctor")
    assert code == 1
    assert "pip install no-such-package" in out


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["sft"],
        ["reward"],
        ["ppo"],
        ["evaluate", "tradeoffs"],
        ["evaluate", "reward"],
        ["chat"],
        ["config"],
        ["data", "build"],
        ["data", "stats"],
    ],
)
def test_help_has_an_example(tell: Tell, command: list[str]) -> None:
    code, out, _ = tell(*command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"mmrlhf {' '.join(command)} " in " ".join(out.split())


def test_help_names_every_command(tell: Tell) -> None:
    for arguments in (["--help"], ["-h"], []):
        code, out, err = tell(*arguments)
        assert code == (0 if arguments else 2)
        for name in ("run", "sft", "reward", "ppo", "evaluate", "chat", "doctor", "config", "data"):
            assert name in out + err


def test_config_prints_settings(tell: Tell) -> None:
    code, out, _ = tell("config", "ppo")
    assert code == 0
    for word in ("kl_coef", "0.05", "penalty on the KL"):
        assert word in out
    assert "weight_decay" in tell("config", "ppo.optim")[1]
    assert "output_dir" in tell("config")[1]
    is_clear(*code_and_err(tell("config", "pp")), "'pp' is no section", "ppo")
    one = tell("config", "ppo.kl_coef")[1]  # a setting alone
    assert "penalty on the KL" in one
    assert "gamma" not in one
    is_clear(*code_and_err(tell("config", "ppo.kl_coeff")), "'kl_coeff' is no section")
    is_clear(*code_and_err(tell("config", "data.sources.flips")), "'flips' is no section", "flip_pairs")


def test_config_prints_types(tell: Tell) -> None:
    rows = {line.split()[0]: " ".join(line.split()) for line in tell("config", "ppo")[1].splitlines()}
    assert rows["kl_coef"].startswith("kl_coef float >= 0 0.05 penalty")
    assert rows["kl_target"].startswith("kl_target float > 0 or null null KL")
    assert rows["steps"].startswith("steps int >= 1 100 rollouts")
    engine = " ".join(tell("config", "engine")[1].split())
    assert "tensorboard bool True write TensorBoard files" in engine
    assert "seed int >= 0 0 seeds the order" in " ".join(tell("config")[1].split())


def test_config_prints_the_settings_of_plugins(tell: Tell) -> None:
    """Of a family all members, and of one by its type."""
    code, out, _ = tell("config", "ppo.variants.scalarizer")
    assert code == 0
    for word in ("weighted_sum: The weighted mean", "chebyshev: Smooth", "worst_case: The least"):
        assert f"ppo.variants.scalarizer.{word}" in out
    assert "mu float >= 0 0.5 smoothing" in " ".join(out.split())
    assert tell("config", "ppo.variants.0.scalarizer")[0] == 0  # as a mistake names it

    out = tell("config", "data.sources")[1]
    for word in ("data.sources.trl: ", "data.sources.hh_rlhf: ", "data.sources.flip_pairs: "):
        assert word in out
    alone = " ".join(tell("config", "data.sources.flip_pairs")[1].split())
    assert "count int >= 1 1000 How many pairs; each gives two records." in alone
    assert "hh_rlhf" not in alone
    assert "mmrlhf config data.sources" in " ".join(tell("config", "data")[1].split())


def test_help_loses_nothing_in_brackets(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Help is read as markup, in which `[serve]` is a style."""
    from typer.main import get_command

    from mmrlhf.cli import app

    monkeypatch.setenv("TERMINAL_WIDTH", "2000")

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield path, command
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, (*path, name))

    looked = 0
    for path, command in walk(get_command(app), ()):
        helps = [command.help, command.epilog, *(getattr(one, "help", None) for one in command.params)]
        bracketed = {
            word
            for text in helps
            for word in (text or "").replace("\\[", "[").split()
            if "[" in word.strip("[")
        }
        if bracketed:
            looked += 1
            _, out, _ = tell(*path, "--help")
            assert [word for word in bracketed if word not in out] == [], path
    assert looked


def test_names_from_data_are_printed_as_text(
    tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    name = "[/b]x\x1b[31m"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "Hello?", "chosen": "Yes, hello.", "rejected": "No."}) + "\n")
    data = tmp_path / "data"
    code, out, err = tell(
        *("data", "convert", "--from", "trl", rows, "-o", data),
        *("--set", f"objective={json.dumps(name)}"),
    )
    assert code == 0, err
    code, out, err = tell("data", "stats", data)
    assert (code, "[/b]x\\u001b[31m" in out, "\x1b" in out) == (0, True, False), err
    code, out, err = tell("data", "check", f"{data}[/b]\x1b[31m")
    assert (code, "[/b]\\u001b[31m" in err, "\x1b" in err) == (2, True, False)
