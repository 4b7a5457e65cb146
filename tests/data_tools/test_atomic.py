"""What is written is whole, on the disk before it has its name, and never written by two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools import atomic
from data_tools.atomic import is_put_aside, new_folder, put_folder, restore_folder
from data_tools.build import DataConfig, build
from data_tools.errors import UserError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was synced and renamed, in order, by the names of files."""
    seen: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def watched_sync(handle: int) -> None:
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        sync(handle)

    def watched_replace(source: Path, target: Path) -> None:
        seen.append(("name", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", watched_sync)
    monkeypatch.setattr(atomic.os, "replace", watched_replace)
    return seen


def make_tree(folder: Path) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "weights").write_text("1")
    (folder / "card").write_text("2")


def test_a_folder_gets_its_name_once_all_of_it_is_on_the_disk(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    make_tree(tmp_path / "new")
    put_folder(tmp_path / "new", tmp_path / "model")
    named = calls.index(("name", "model"))
    before = {name for kind, name in calls[:named] if kind == "sync"}
    assert before == {"weights", "inner", "card", "new"}
    assert calls[named + 1 :] == [("sync", tmp_path.name)]


def replaces(folder: Path) -> tuple[Path, Path]:
    """A new folder and the one whose place it is to take."""
    make_tree(folder / "model")
    (folder / "model" / "card").write_text("old")
    make_tree(folder / "new")
    return folder / "new", folder / "model"


def test_two_folders_are_swapped_at_once(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    """No rename leaves the name without a folder, where the file system of the tests can swap two."""
    new, model = replaces(tmp_path)
    assert atomic._swap(new, model)
    assert ((new / "card").read_text(), (model / "card").read_text()) == ("old", "2")
    put_folder(new, model)
    assert (model / "card").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert ("name", "model") not in calls


@pytest.mark.parametrize("cut", range(3))
def test_killed_at_any_rename_the_folder_before_or_the_new_one_comes_back(cut: int, tmp_path: Path) -> None:
    """Where two folders can't be swapped; 0: before it is put aside, 1: before the new one comes, 2: afterwards."""
    new, model = replaces(tmp_path)
    program = f"""
import os
from pathlib import Path
from data_tools import atomic
atomic._swap = lambda one, other: False
rename, left = os.replace, {cut}
def replace(source, target):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    rename(source, target)
os.replace = replace
atomic.put_folder(Path({str(new)!r}), Path({str(model)!r}))
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    assert model.exists() == (cut != 1)
    assert is_put_aside(model) == (cut == 1)
    restore_folder(model)
    assert (model / "card").read_text() == ("2" if cut == 2 else "old")
    assert not [path for path in tmp_path.iterdir() if path.name not in ("new", "model")]
    if cut < 2:
        put_folder(new, model)
    assert (model / "card").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_rename_that_fails_leaves_the_folder_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, model = replaces(tmp_path)
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(source) == new:
            raise PermissionError(13, "not this one")
        rename(source, target)

    monkeypatch.setattr(atomic, "_swap", lambda one, other: False)
    monkeypatch.setattr(atomic.os, "replace", replace)
    with pytest.raises(PermissionError):
        put_folder(new, model)
    assert (model / "card").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]


def test_half_of_a_removed_folder_never_comes_back(tmp_path: Path) -> None:
    make_tree(tmp_path / ".model.waste")
    restore_folder(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_build_begins_by_bringing_the_output_back(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    source = {"type": "trl", "name": "t", "path": str(tmp_path / "rows.jsonl"), "splits": {"train": 1.0}}
    config = DataConfig.model_validate({"sources": [source]})
    build(config, tmp_path / "data")
    os.replace(tmp_path / "data", tmp_path / ".data.old")
    (tmp_path / "rows.jsonl").unlink()  # so that it can't be built anew
    build(config, tmp_path / "data")
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert not (tmp_path / ".data.old").exists()


def test_an_export_that_another_was_quicker_with_is_refused(tmp_path: Path) -> None:
    def write_twice() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "mine").write_text("1")
            make_tree(tmp_path / "out")

    with pytest.raises(UserError, match="out: exists already; choose another folder with -o"):
        write_twice()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert (tmp_path / "out" / "card").exists()
