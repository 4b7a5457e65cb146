"""Whatever happens to the files of the newest checkpoint, a run goes on from it unharmed or from the one before."""

import contextlib
import functools
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checkpoint import same, trained

from mmrlhf.training.checkpoint import (
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    latest_checkpoint,
    save_checkpoint,
)

TENSORS = (WEIGHTS, OPTIMIZER)
STAGE = {"kl_coef": 0.1 + 0.2, "seen": 37, "learnt": [["truth", "text"]]}


@functools.cache
def checkpoint(step: int) -> Checkpoint:
    model, optimizer = trained()
    weights = {name: value.detach() + step for name, value in model.named_parameters()}
    return Checkpoint(step, weights, optimizer.state_dict(), {**STAGE, "seen": step})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of steps 4 and 8."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (4, 8):
        save_checkpoint(folder, checkpoint(step), keep=2)
    return folder


def after(whole: Path, damage: Callable[[Path], Any]) -> tuple[Checkpoint | None, list[str]]:
    """What is found once something has happened to the newest checkpoint's folder, and what was said."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()) as said:
        folder = Path(shutil.copytree(whole, Path(name) / "checkpoints"))
        damage(folder / "step-000008")
        return latest_checkpoint(folder), said.getvalue().splitlines()


def is_passed_over(whole: Path, damage: Callable[[Path], Any]) -> None:
    """The damaged checkpoint is told of, and the one before it is there in full."""
    found, said = after(whole, damage)
    assert len(said) == 1
    assert "step-000008 is damaged (" in said[0]
    assert found is not None
    assert found.step == 4
    assert same(found.weights, checkpoint(4).weights)
    assert found.stage == {**STAGE, "seen": 4}


def rewrite(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the values in `state.json`."""
    state = json.loads((folder / STATE).read_text())
    change(state)
    (folder / STATE).write_text(json.dumps(state))


def test_undamaged_the_newest_is_used(whole: Path) -> None:
    found, said = after(whole, lambda folder: None)
    assert said == []
    assert found is not None
    assert found.step == 8
    assert same(found.weights, checkpoint(8).weights)


@given(name=st.sampled_from([*TENSORS, STATE]), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None)
def test_cut_short_anywhere(whole: Path, name: str, share: float) -> None:
    is_passed_over(
        whole, lambda folder: rewrite(folder, name, lambda data: data[: math.floor(share * len(data))])
    )


@given(name=st.sampled_from(TENSORS), share=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_one_byte_of_the_tensors_changed(whole: Path, name: str, share: float, flip: int) -> None:
    def change(data: bytes) -> bytes:
        at = math.floor(share * len(data))
        return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]

    is_passed_over(whole, lambda folder: rewrite(folder, name, change))


@given(name=st.sampled_from([*TENSORS, STATE]), content=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_something_else_in_a_file(whole: Path, name: str, content: bytes) -> None:
    is_passed_over(whole, lambda folder: rewrite(folder, name, lambda data: content))


@given(name=st.sampled_from(TENSORS), more=st.binary(min_size=1, max_size=100))
@settings(max_examples=20, deadline=None)
def test_something_behind_the_tensors(whole: Path, name: str, more: bytes) -> None:
    is_passed_over(whole, lambda folder: rewrite(folder, name, lambda data: data + more))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(content=VALUES)
@settings(max_examples=30, deadline=None)
def test_json_of_something_else(whole: Path, content: Any) -> None:
    is_passed_over(whole, lambda folder: (folder / STATE).write_text(json.dumps(content)))


@pytest.mark.parametrize("name", [*TENSORS, STATE])
def test_a_file_that_is_missing_a_folder_or_of_the_checkpoint_before(whole: Path, name: str) -> None:
    def to_folder(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    is_passed_over(whole, lambda folder: (folder / name).unlink())
    is_passed_over(whole, to_folder)
    if name != OPTIMIZER:  # which is the same in both
        is_passed_over(
            whole, lambda folder: shutil.copy(folder.with_name("step-000004") / name, folder / name)
        )


def test_a_file_in_place_of_the_folder(whole: Path) -> None:
    def to_file(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.write_bytes(b"step 8")

    is_passed_over(whole, to_file)


def test_all_of_them_damaged(whole: Path) -> None:
    """Each is told of, and the stage begins anew."""
    found, said = after(
        whole, lambda folder: [(folder.with_name(f"step-00000{n}") / WEIGHTS).unlink() for n in (4, 8)]
    )
    assert found is None
    assert [message.split(" is damaged")[0][-11:] for message in said] == ["step-000008", "step-000004"]
    assert said[1].endswith("; there is none before it")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(step=80),
        lambda state: state.update(step="8"),
        lambda state: state.update(stage=[]),
        lambda state: state["stage"].update(kl_coef=0.7),
        lambda state: state["stage"].pop("kl_coef"),
        lambda state: state.update(optimizer={"dict": []}),
    ],
    ids=["step", "step-as-text", "no-stage", "kl", "no-kl", "optimizer"],
)
def test_another_value_in_the_state(whole: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Unnoticed, it would be gone on from without a word, or end in a traceback far from here."""
    is_passed_over(whole, lambda folder: edit(folder, change))


def test_a_state_without_hashes_vouches_for_nothing(whole: Path) -> None:
    def change(folder: Path) -> None:
        edit(folder, lambda state: state.update(sha256={}))
        rewrite(folder, WEIGHTS, lambda data: data[:-4] + b"\0\0\0\0")

    is_passed_over(whole, change)


def test_a_state_without_hashes_before_a_torn_file(whole: Path) -> None:
    def change(folder: Path) -> None:
        edit(folder, lambda state: state.update(sha256={}))
        rewrite(folder, WEIGHTS, lambda data: data[:-4])

    is_passed_over(whole, change)


def test_brackets_without_end(whole: Path) -> None:
    is_passed_over(whole, lambda folder: (folder / STATE).write_text("[" * 100_000))
