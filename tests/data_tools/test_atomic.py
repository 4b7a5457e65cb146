"""What is written is whole, on the disk before it has its name, and never written by two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_tools import atomic
from data_tools.atomic import new_folder, put_folder
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


def test_the_folder_before_is_there_until_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off at any rename, one of the two is whole, under its name or beside it."""
    for cut in (0, 1):
        root = tmp_path / str(cut)
        make_tree(root / "model")
        (root / "model" / "card").write_text("old")
        make_tree(root / "new")
        done = 0

        def replace(source: Path, target: Path, real=os.replace, cut=cut) -> None:
            nonlocal done
            if done == cut:
                raise KeyboardInterrupt
            done += 1
            real(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(atomic.os, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                put_folder(root / "new", root / "model")
        assert "old" in {path.read_text() for path in root.rglob("card")}
        put_folder(root / "new", root / "model")
        assert sorted(path.name for path in root.iterdir()) == ["model"]
        assert (root / "model" / "card").read_text() == "2"


def test_an_export_that_another_was_quicker_with_is_refused(tmp_path: Path) -> None:
    def write_twice() -> None:
        with new_folder(tmp_path / "out") as folder:
            (folder / "mine").write_text("1")
            make_tree(tmp_path / "out")

    with pytest.raises(UserError, match="out: exists already; choose another folder with -o"):
        write_twice()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert (tmp_path / "out" / "card").exists()
