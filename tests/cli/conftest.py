"""Running command lines."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from command_lines import DATA, Tell

from mmrlhf.cli import _main


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Tell:
    """Runs a command line: its exit code, what it printed, and what it said on stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run config with some sections replaced."""

    def write(file: str = "run.yaml", /, **sections: object) -> Path:
        row = {
            "name": "r",
            "output_dir": str(tmp_path / "runs"),
            "data": DATA,
            "sft": {"batch_size": 4},
            **sections,
        }
        path = tmp_path / file
        path.write_text(yaml.safe_dump(row))
        return path

    return write
