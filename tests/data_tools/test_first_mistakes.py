"""What a newcomer gets wrong: a message that names the thing and says what to do, no traceback, exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.cli import main

TRL = {"prompt": "Name a fruit.", "chosen": "A lemon.", "rejected": "A brick."}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "Name a fruit."}],
    "chosen": {"from": "gpt", "value": "A lemon."},
    "rejected": {"from": "gpt", "value": "A brick."},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two small data sets and a file that is none."""
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text(json.dumps(TRL) + "\n")
    Path("talk.json").write_text(json.dumps([SHAREGPT]))
    Path("pictures.jsonl").write_text(json.dumps({**TRL, "images": ["lost.png"]}) + "\n")
    Path("file").touch()
    Path("nowhere").symlink_to("not-there")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says of a mistake; it must end with 2."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--from trl pair.jsonl -o x",
            "pair.jsonl: can't be read (No such file or directory). Did you mean pairs.jsonl?",
        ),
        ("--from trl talk.json -o x", "The rows look like llamafactory: 1 of the first 1 rows: has conv"),
        ("--from trl talk.json -o x", "say type: llamafactory (--from of convert)"),
        ("--from trl pictures.jsonl -o x", "Images are read below . only; name their folder: images"),
        (
            "--from trl pairs.jsonl -o x --set name=My-Pairs",
            "source.name: doesn't fit. The source's name: part of ids and file names (a-z, 0-9, _, -).",
        ),
        ("--from trl pairs.jsonl -o file/x", "file/x: can't be written to (Not a directory); choose another"),
        ("--from trl pairs.jsonl -o nowhere/x", "nowhere/x: can't be written to (File exists); choose"),
        (f"--from trl pairs.jsonl -o {'x' * 300}", "can't be written to (File name too long); choose"),
    ],
)
def test_a_mistake_in_a_conversion(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert message in told(capsys, "convert", *arguments.split())
    assert not (here / "x").exists()


def test_mistakes_about_a_data_directory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_ends(0, "convert", "--from", "trl", "pairs.jsonl", "-o", "data")
    # nothing but the message: no empty line of progress bars where nobody watches
    assert capsys.readouterr().err == ""
    assert told(capsys, "stats", "file") == (
        "error: file: is a file; name the folder that a build or conversion made\n"
    )
    assert "data: can't be written to (Is a directory)" in told(capsys, "preview", "data", "-o", "data")
    assert "file/p.html: can't be written to" in told(capsys, "preview", "data", "-o", "file/p.html")
    said = told(capsys, "audit", "data", "--only", "length", "--against", "pairs.jsonl")
    assert said.startswith("error: --against is for the audit contamination, which --only length leaves out")
    # quarantine/ and audit/ are ours: check doesn't wonder about them
    main_ends(0, "audit", "data", "--only", "length")
    capsys.readouterr()
    main_ends(0, "check", "data")
    assert capsys.readouterr().out.startswith("data: 1 shards, 1 records")


def main_ends(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == code


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, data_tools.cli; from typer.testing import CliRunner\n"
        "for name in ('build', 'convert', 'audit', 'check', 'preview', 'export', 'stats'):\n"
        "    shown = CliRunner().invoke(data_tools.cli.app, [name, '--help'])\n"
        "    assert shown.exit_code == 0 and 'Examples' in shown.output, name\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'pyarrow', 'matplotlib', 'ray', 'datasets'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
