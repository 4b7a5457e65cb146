from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.errors import RunError, UserError
from data_tools.executor import LocalExecutor, RayExecutor, make_executor

ROOT = Path(__file__).resolve().parents[2]


def double(number: int) -> int:
    if number < 0:
        raise UserError(f"{number} is negative")
    return 2 * number


class Odd(Exception):
    """One that can't be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly(number: int) -> int:
    raise Odd(number, 2)


def vanish(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def where(number: int) -> int:
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_errors_reach_the_caller(workers: int) -> None:
    executor = LocalExecutor(workers)
    assert sorted(executor.map(double, range(7))) == [0, 2, 4, 6, 8, 10, 12]
    assert list(executor.map(double, [])) == []
    with pytest.raises(UserError, match=r"^-1 is negative$"):
        list(executor.map(double, [1, -1, 2]))


def test_processes_that_fail() -> None:
    executor = LocalExecutor(2)
    assert os.getpid() not in set(executor.map(where, range(3)))
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        list(executor.map(fail_oddly, [1, 1]))
    with pytest.raises(RunError, match=r"ended by itself \(exit code -9\)"):
        list(executor.map(vanish, [1, 2, 3]))
    with pytest.raises(UserError, match="use --workers 1"):
        list(executor.map(lambda number: number, [1, 2]))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom data_tools.executor import LocalExecutor\n"
        "def work(name):\n"
        "    Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    list(LocalExecutor(2).map(work, 'ab'))\n"
    )
    (tmp_path / "program.py").write_text(code)
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pids")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        # a shell that starts the tests in the background has them ignore SIGINT, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while len(found := list((tmp_path / "pids").iterdir())) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    process.wait(30)
    while any(_lives(int(path.name)) for path in found):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_names() -> None:
    assert isinstance(make_executor("local", 3), LocalExecutor)
    assert isinstance(make_executor("ray", 3), RayExecutor)
    for kind, workers, why in (("spark", None, "none of local, ray"), ("local", 0, "must be 1 or more")):
        with pytest.raises(UserError, match=why):
            make_executor(kind, workers)


def test_ray_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'mmrlhf\[ray\]'"):
        list(RayExecutor().map(double, [1]))


def test_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    """In a process of its own: Ray leaves threads and warnings behind."""
    code = """
import json, sys
from pathlib import Path
from data_tools.build import DataConfig, build
from data_tools.config import parse_config
from data_tools.errors import UserError
from data_tools.executor import RayExecutor
from data_tools.inputs import file_hashes

folder = Path(sys.argv[1])
row = {"sources": [{"type": "flip_pairs", "count": 8}, {"type": "text_pairs", "count": 20}], "shard_records": 6}
config = parse_config(row, DataConfig, "test")
executor = RayExecutor(2)
try:
    list(executor.map(file_hashes, [3]))
except TypeError as error:
    print("error:", error)
try:
    list(executor.map(Path.read_text, [folder / "none"]))
except FileNotFoundError as error:
    print("missing:", error.filename)
build(config, folder / "local")
build(config, folder / "ray", executor=executor)
for path in sorted((folder / "local").rglob("*")):
    if path.is_file():
        assert path.read_bytes() == (folder / "ray" / path.relative_to(folder / "local")).read_bytes(), path
print(len(list((folder / "ray").glob("*.tar"))), "shards")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "error: 'int' object is not iterable" in done.stdout
    assert f"missing: {tmp_path / 'none'}" in done.stdout
    assert "7 shards" in done.stdout
