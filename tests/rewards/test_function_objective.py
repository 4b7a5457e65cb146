"""A Python function of the user as an objective: what it is given, what it may return, and what goes wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import judged_records as made
import pytest

from data_tools.config import dump_yaml, load_config, parse_config
from data_tools.errors import RunError, UserError
from mmrlhf.config import PpoConfig
from mmrlhf.rewards.objectives import Function, ObjectiveBase

numbers = itertools.count()

CODE = '''
def middle(picture):
    return picture.getpixel((picture.width // 2, picture.height // 2))

def shown(prompts, responses, images):
    """The letters of the answer, and how red the middle of the first picture is."""
    return [len(text) + (middle(pictures[0])[0] / 255 if pictures else 0)
            for text, pictures in zip(responses, images)]

def by_record(prompts, responses, images, records, weight=1.0):
    return [weight * len(record.reference) if record.reference else None for record in records]

def two(prompts, responses, images):
    return {"words": [len(text.split()) for text in responses], "asked": [len(p) for p in prompts]}

def calls(prompts, responses, images):
    """How many answers a call has, and how many pictures it holds."""
    pictures = {id(picture) for each in images for picture in each}
    return {"answers": [len(responses)] * len(responses), "pictures": [len(pictures)] * len(responses)}

def broken(prompts, responses, images):
    return [1 / 0 for _ in responses]

def needs(prompts, responses, images, key):
    return [0.0 for _ in responses]

class Callable:
    def __call__(self, prompts, responses, images):
        return [2.0] * len(responses)

ready = Callable()
value = 3

from mmrlhf.rewards.objectives import ObjectiveBase

class Mine(ObjectiveBase):
    """Counts."""

    def values(self, records, texts):
        return [float(len(text)) for text in texts]

class NoConfig:
    pass
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory."""
    name = f"rewards_of_a_user_{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", __import__("sys").path[:])
    return name


@pytest.fixture
def read(module: str) -> Callable[..., ObjectiveBase]:
    """The objective that a row of a config is read as."""

    def parse(name: str, **settings: Any) -> ObjectiveBase:
        row = {"type": f"{module}:{name}", "name": "own", **settings}
        (found,) = parse_config({"objectives": [row]}, PpoConfig, "run.yaml").objectives
        return found  # type: ignore[return-value]

    return parse


def test_it_is_given_prompts_answers_and_images(read: Callable[..., ObjectiveBase]) -> None:
    found = read("shown").score(
        [made.picture("a", "red"), made.text("b"), made.picture("c", "blue")], ["x", "yy", "z"]
    )
    assert found.mean_BK[1].item() == 2.0
    red, blue = found.mean_BK[0].item(), found.mean_BK[2].item()
    assert red > blue + 0.3
    assert found.judged_BK.all()


def test_records_and_more_arguments_where_it_wants_them(read: Callable[..., ObjectiveBase]) -> None:
    objective = read("by_record", arguments={"weight": 2.5})
    found = objective.score([made.text("a", reference={"x": 1}), made.text("b")], ["", ""])
    assert found.mean_BK.tolist() == [[2.5], [0.0]]
    assert found.judged_BK.tolist() == [[True], [False]]


def test_several_objectives_at_once(read: Callable[..., ObjectiveBase]) -> None:
    objective = read("two", judges=["words", "asked"], std=2.0)
    assert objective.names == ("words", "asked")
    found = objective.score([made.text("a", "Hm?"), made.text("b", "Why?")], ["one two", "three"])
    assert found.objectives == ("words", "asked")
    assert found.mean_BK.tolist() == [[1.0, 1.5], [0.5, 2.0]]
    with pytest.raises(
        RunError, match=r"objective own: .*:two gave a dict with words, asked, not a dict with words$"
    ):
        read("two", judges=["words"]).score([made.text()], ["x"])
    with pytest.raises(RunError, match=r"objective own: gave {'words'"):
        read("two").score([made.text()], ["x"])


def test_a_call_has_so_many_prompts_with_all_of_their_answers(read: Callable[..., ObjectiveBase]) -> None:
    records = [made.picture("a", "red"), made.picture("b", "blue"), made.text("c")]
    order = [0, 1, 0, 2, 2, 1, 0]
    objective = read("calls", judges=["answers", "pictures"], batch_size=2)
    given = objective.score([records[i] for i in order], ["x"] * 7)
    # a and b come in the first call, with 5 answers and 2 pictures; c in the second
    assert given.mean_BK[:, 0].tolist() == [5.0, 5.0, 5.0, 2.0, 2.0, 5.0, 5.0]
    assert given.mean_BK[:, 1].tolist() == [2.0, 2.0, 2.0, 0.0, 0.0, 2.0, 2.0]
    alone = read("calls", judges=["answers", "pictures"], batch_size=1)
    given = alone.score([records[i] for i in order], ["x"] * 7)
    assert given.mean_BK[:, 0].tolist() == [3.0, 2.0, 3.0, 2.0, 2.0, 2.0, 3.0]
    assert given.mean_BK[:, 1].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]


def test_what_can_be_called_is_a_function(read: Callable[..., ObjectiveBase]) -> None:
    assert read("ready").score([made.text()], ["x"]).mean_BK.tolist() == [[2.0]]


def test_a_class_of_the_user_in_the_same_place(read: Callable[..., ObjectiveBase]) -> None:
    objective = read("Mine", std=2.0)
    assert not isinstance(objective, Function)
    assert objective.score([made.text()], ["four"]).mean_BK.tolist() == [[2.0]]


def test_an_exception_in_it_is_told_with_its_place(read: Callable[..., ObjectiveBase], module: str) -> None:
    with pytest.raises(RunError) as caught:
        read("broken").score([made.text()], ["x"])
    said = str(caught.value)
    assert said.startswith(f"objective own: {module}:broken raised ZeroDivisionError: division by zero (")
    assert said.endswith(
        f"{module}.py, line {CODE.splitlines().index('    return [1 / 0 for _ in responses]') + 1})"
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nothing", {}, "has no nothing"),
        ("value", {}, "is not a class made from data_tools.config.Config, nor a function"),
        ("NoConfig", {}, "is not a class made from data_tools.config.Config, nor a function"),
        ("needs", {}, "can't be called with (prompts, responses, images) and arguments: missing a required"),
        ("shown", {"arguments": {"depth": 1}}, "got an unexpected keyword argument 'depth'"),
        ("shown", {"colour": 1}, "objectives.0.colour: unknown key"),
    ],
)
def test_mistakes_in_a_config(
    read: Callable[..., ObjectiveBase], name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(name, **settings)
    assert message in str(caught.value)
    # by its key, also where no single field of it is wrong
    assert str(caught.value).startswith("run.yaml: objectives.0")
    assert "the file" not in str(caught.value)


def test_a_module_that_is_not_there(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}_bad.py").write_text("def f(:\n")
    for name, message in (
        (f"{module}x:f", "can't import"),
        (f"{module}_bad:f", r"can't import .*\(invalid syntax"),
    ):
        with pytest.raises(UserError, match=message):
            parse_config({"objectives": [{"type": name, "name": "x"}]}, PpoConfig, "run.yaml")


def test_it_is_written_as_it_is_read(read: Callable[..., ObjectiveBase], module: str, tmp_path: Path) -> None:
    rows = [
        {"type": f"{module}:two", "name": "own", "judges": ["a", "b"]},
        {"type": f"{module}:Mine", "name": "mine"},
        {"type": "function", "name": "same", "function": f"{module}:shown"},
    ]
    config = parse_config({"objectives": rows}, PpoConfig, "run.yaml")
    path = tmp_path / "ppo.yaml"
    path.write_text(dump_yaml(config))
    assert load_config(path, PpoConfig) == config
    assert f"function: {module}:two" in path.read_text()


def test_the_code_is_part_of_what_a_stage_is_made_of(read: Callable[..., ObjectiveBase], module: str) -> None:
    def code(name: str, text: str) -> Any:
        import importlib
        import linecache
        import sys

        Path(f"{module}.py").write_text(text)
        importlib.invalidate_caches()
        linecache.clearcache()
        sys.modules.pop(module, None)
        return read(name).made_of({"name": "own"})["code"]

    before = code("shown", CODE)
    assert len(before) == 64
    assert code("shown", CODE.replace("division", "")) == before
    assert code("shown", CODE + "# more\n") == before
    changed = CODE.replace("return [len(text) +", "return [2 * len(text) +")
    assert code("shown", changed) != before
    assert code("Mine", CODE) != code("Mine", CODE.replace('"""Counts."""', '"""Counts twice."""'))
    assert code("ready", CODE) is None  # no source of its own to read
