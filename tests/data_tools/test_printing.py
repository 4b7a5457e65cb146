"""What is printed is text, whatever stands in it."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Group
from rich.progress import Progress
from rich.table import Table

from data_tools.printing import PlainColumn, PlainConsole, say, styled, visible

ROOT = Path(__file__).resolve().parents[2]
NASTY = "[/b]x [red]y[/] :smile: \x1b[31mz\x07"
SHOWN = "[/b]x [red]y[/] :smile: \\u001b[31mz\\u0007"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (NASTY, SHOWN),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),  # sets a window's title
        ("over\rwritten\b\b", "over\\u000dwritten\\u0008\\u0008"),
        ("\x9b2J", "\\u009b2J"),  # the same as ESC [ 2 J, which clears the screen
        ("a\u202egnp.exe", "a\\u202egnp.exe"),  # turned round: a exe.png
        ("half \ud83d", "half \\ud83d"),
        ("rows\tand\nlines, \u200fשלום, 你好, 🙂", "rows\tand\nlines, \u200fשלום, 你好, 🙂"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    assert visible(text) == shown
    say(text)
    assert capsys.readouterr().out == f"{shown}\n"


@pytest.fixture
def console() -> PlainConsole:
    console = PlainConsole()
    console.file, console.width = io.StringIO(), 120
    return console


def printed(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_tables_show_their_cells_as_they_are(console: PlainConsole) -> None:
    table = Table("name", NASTY, title=f"title {NASTY}", caption=f"caption {NASTY}")
    table.add_row(styled(NASTY, "bold"), NASTY)
    console.print(Group(table, f"below {NASTY}"))
    console.print(f"alone {NASTY}", style="yellow")
    assert printed(console).count(SHOWN) == 7
    assert "\x1b" not in printed(console)


def test_progress_bars_show_their_notes_as_they_are() -> None:
    console = PlainConsole()
    console.file, console.width = io.StringIO(), 200
    with Progress(
        PlainColumn("{task.description}"), PlainColumn("{task.fields[note]}"), console=console
    ) as bar:
        bar.add_task(f"first {NASTY}", note=f"second {NASTY}")
    assert f"first {SHOWN}" in printed(console)
    assert f"second {SHOWN}" in printed(console)


def test_nothing_is_printed_past_it() -> None:
    """Neither package prints by itself, makes another console, or a column that reads markup."""
    found = []
    for path in [*(ROOT / "data_tools").rglob("*.py"), *(ROOT / "mmrlhf").rglob("*.py")]:
        if path.name == "printing.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in (
                    "print",
                    "Console",
                    "TextColumn",
                    "typer.echo",
                    "typer.secho",
                    "Text.from_markup",
                ):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    assert found == []


NOISY = """
import logging, sys, warnings
from data_tools.printing import mute_libraries
mute_libraries()
logging.getLogger("bitsandbytes.backends").warning("noise of a logger")
warnings.warn("noise of a warning")
logging.getLogger("mmrlhf.serving").warning("ours")
logging.getLogger("library").error("an error")
import subprocess
subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('noise of a child')"])
"""


@pytest.mark.parametrize(("asked", "heard"), [((), 0), (("-W", "default"), 2)])
def test_libraries_are_not_heard(asked: tuple[str, ...], heard: int) -> None:
    """But for errors, and where somebody asks to hear them."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    if asked:
        environment["PYTHONWARNINGS"] = "default"
    told = subprocess.run(
        [sys.executable, *asked, "-c", NOISY], capture_output=True, text=True, env=environment, check=True
    ).stderr
    assert sum("noise" in line and "Warning" in line for line in told.splitlines()) == heard
    assert "noise of a logger" not in told
    assert [line for line in told.splitlines() if line in ("ours", "an error")] == ["ours", "an error"]
