"""`mmrlhf serve-reward` at the command line: what keeps it from starting is told, and it stops as it is asked to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from serving_samples import all_items, local, score

from mmrlhf.cli import _main
from mmrlhf.rewards.model import RewardModel

ROOT = Path(__file__).resolve().parents[2]


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command line that must fail says; code 2 and no traceback."""
    assert _main(["serve-reward", *arguments]) == 2
    err = capfd.readouterr().err
    assert "Traceback" not in err
    return err


def test_help_has_examples(capfd: pytest.CaptureFixture[str]) -> None:
    assert _main(["serve-reward", "--help"]) == 0
    out = capfd.readouterr().out
    for word in (
        "mmrlhf serve-reward runs/quickstart/reward/model",
        "--token-env",
        "--max-wait-ms",
        "127.0.0.1",
    ):
        assert word in out


def test_what_keeps_it_from_starting(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path)
    assert "no reward model there (reward.json is missing)" in refused(capfd, folder, "--port", "0")
    monkeypatch.delenv("REWARD_TOKEN", raising=False)
    said = refused(capfd, folder, "--token-env", "REWARD_TOKEN")
    assert "--token-env REWARD_TOKEN: the environment variable isn't set" in said
    for token in ("geheim-f\u00fcr-dich", "two words", "two\nlines"):
        monkeypatch.setenv("REWARD_TOKEN", token)
        said = refused(capfd, folder, "--token-env", "REWARD_TOKEN")
        assert "--token-env REWARD_TOKEN: the token holds a character that no header can have" in said
        assert token not in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(capfd, folder, "--port", port)
        assert f"can't listen on 127.0.0.1, port {port}" in said
    assert "--device abacus" in refused(capfd, folder, "--port", "0", "--device", "abacus")
    assert "Invalid value" in refused(capfd, folder, "--max-batch", "0")
    for name in ("max-wait-ms", "max-request-mb"):
        said = refused(capfd, folder, f"--{name}", "inf")
        assert f"serve-reward: {name.replace('-', '_')}: Input should be a finite number" in said


def test_an_open_server_is_warned_of(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    arguments = (str(tmp_path), "--port", "0")
    for more, warned in (
        (["--host", "0.0.0.0"], True),
        (["--host", "0.0.0.0", "--token-env", "REWARD_TOKEN"], False),
        ([], False),
        (["--host", "localhost"], False),
    ):
        said = refused(capfd, *arguments, *more)
        assert ("warning: whoever reaches http://0.0.0.0:" in said) == warned
        assert ("--token-env" in said) == warned


def test_without_the_extra(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mmrlhf.serving.protocol", raising=False)
    assert "pip install 'mmrlhf[serve]'" in refused(capfd, str(tmp_path))


def test_it_serves_until_sigterm(judge: RewardModel, tmp_path: Path) -> None:
    judge.save(tmp_path / "model")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mmrlhf", "serve-reward", str(tmp_path / "model"), "--port", str(port)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert f"(helpfulness, factuality) on http://127.0.0.1:{port}; Ctrl-C stops" in line
            url = f"http://127.0.0.1:{port}"
            wait_for(url, process)
            reply = score(url, {"items": all_items()[:2]})
            assert reply.json["model"] == str(tmp_path / "model")
            expected = local(judge).mean_BK[:2].tolist()
            for result, row in zip(reply.json["results"], expected, strict=True):
                assert result["score"] == pytest.approx(row, abs=1e-5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    """Until the server takes connections: the line comes just before."""
    where = urlsplit(url)
    while process.poll() is None:
        try:
            socket.create_connection((where.hostname or "", where.port or 0)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError("the server has ended")


def test_the_command_has_the_defaults_of_the_settings() -> None:
    """They stand twice, so that help needs no heavy library."""
    import inspect

    from mmrlhf.cli import serve_reward
    from mmrlhf.serving.settings import ServerSettings

    told = {name: parameter.default for name, parameter in inspect.signature(serve_reward).parameters.items()}
    fields = {name: field.default for name, field in ServerSettings.model_fields.items()}
    shared = told.keys() & fields.keys()
    assert shared == fields.keys() - {"body_timeout"}
    assert {name: told[name] for name in shared} == {name: fields[name] for name in shared}
