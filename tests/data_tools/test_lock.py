"""A folder that one process writes into is refused to others, and free again however that one ended."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_tools.errors import UserError
from data_tools.lock import locked

HOLD = (
    "import sys; from pathlib import Path; from data_tools.lock import locked\n"
    "with locked(Path(sys.argv[1]), 'training'):\n    print('held', flush=True); sys.stdin.read()\n"
)


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_is_named_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    with holder(folder) as process:
        with (
            pytest.raises(
                UserError, match=rf"first: another process is training it \(process {process.pid} on"
            ),
            locked(folder, "training"),
        ):
            pass
        with locked(tmp_path / "runs" / "second", "training"):  # its neighbour is free
            pass
        process.kill()
        process.wait()
        with locked(folder, "training"):
            pass
    assert list((tmp_path / "runs").iterdir()) == []  # nothing is left behind


def test_one_process_holds_a_folder_once(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "data", "building"),
        pytest.raises(UserError, match=rf"process {os.getpid()} on"),
        locked(tmp_path / "data", "building"),
    ):
        pass


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK], ids=["none", "no server"])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that has no locks."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_where_there_are_no_locks_a_file_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        locked(folder, "training"),
        pytest.raises(UserError, match=rf"process {os.getpid()} on .*remove .*run\."),
        locked(folder, "training"),
    ):
        pass
    with locked(folder, "training"):
        (file,) = [path for path in tmp_path.iterdir() if path.suffix != ".tmp" and path.stat().st_size]
    assert not file.exists()


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize(("host", "free"), [("", True), ("elsewhere", False)])
def test_such_a_file_of_a_dead_process_is_passed_over_on_its_machine(
    tmp_path: Path, host: str, free: bool
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with locked(tmp_path / "run", "training"):
        (file,) = [path for path in tmp_path.iterdir() if path.stat().st_size]
        text = file.read_text()
    file.write_text(
        text.replace(str(os.getpid()), str(process.pid)).replace(
            socket.gethostname(), host or socket.gethostname()
        )
    )
    if free:
        with locked(tmp_path / "run", "training"):
            pass
    else:
        with (
            pytest.raises(UserError, match=rf"process {process.pid} on elsewhere"),
            locked(tmp_path / "run", "x"),
        ):
            pass


def test_a_folder_that_cannot_be_written_beside_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written to"), locked(tmp_path / "file" / "run", "training"):
        pass
