"""Values of a config that nobody means: aliases without end, true as a number, numbers beyond all use."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from data_tools.config import Config, load_config, read_yaml
from data_tools.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


class Part(Config):
    flag: bool = False
    steps: Annotated[int, Field(ge=1)] | None = None


class Numbers(Config):
    count: int = 1
    share: float = 0.5
    shares: dict[str, float] = Field({})
    sizes: list[int] = Field([])
    betas: tuple[float, float] = (0.9, 0.95)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    either: float | dict[str, float] = 0.0
    part: Part = Part()
    flag: bool | None = None


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in itertools.pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, r"its aliases \(\*\) stand for more than 1,000,000 values; write out"),
        (BOMB.replace("[", "{k: [", 1).replace("]", "]}", 1), "more than 1,000,000 values"),
        ("a: &a [1, *a]", r"an alias \(\*\) names what it stands in"),
        ("a: &a {b: {c: *a}}", r"an alias \(\*\) names what it stands in"),
    ],
)
def test_aliases_are_bounded(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"bomb\.yaml.*{words}"):
        load_config(path, Numbers)


def test_aliases_on_the_command_line_are_bounded_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--set sizes=.*names what it stands in"):
        load_config(write(tmp_path, "count: 1"), Numbers, ["sizes=&a [1, *a]"])


def test_a_few_aliases_are_welcome(tmp_path: Path) -> None:
    row = read_yaml(write(tmp_path, "a: &a [1, 2]\nb: *a\nc: [*a, *a]\n"))
    assert row == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("count=true", "count: needs a number, not true"),
        ("count=no", "count: needs a number, not false"),
        ("count=1e23", "count: is beyond all use; at most 2,147,483,647"),
        ("count=1000000000000", "count: is beyond all use"),
        ("count=-1e12", "count: is beyond all use"),
        ("count=1.5", "count: .*integer"),
        ("count=.inf", "count: "),
        ("count=.nan", "count: "),
        ("share=true", "share: needs a number, not true"),
        ("share=.nan", "share: .*finite"),
        ("share=-.inf", "share: .*finite"),
        ("shares={a: true}", "shares: needs a number"),
        ("shares={a: .inf}", r"shares\.a: .*finite"),
        ("sizes=[1, false]", "sizes: needs a number, not false"),
        ("sizes=[1, 3e10]", "sizes: is beyond all use"),
        ("betas=[0.9, true]", "betas: needs a number"),
        ("either=true", "either: needs a number"),
        ("either={a: .nan}", "either.*finite"),
        ("seed=1e23", "seed: is beyond all use; at most 9,223,372,036,854,775,807"),
        ("seed=9223372036854775808", "seed: is beyond all use"),
        ("part.steps=true", r"part\.steps: needs a number"),
        ("part.steps=1e23", r"part\.steps: is beyond all use"),
    ],
)
def test_numbers_that_nobody_means(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_config(write(tmp_path, "count: 1"), Numbers, [override])


def test_numbers_that_somebody_means(tmp_path: Path) -> None:
    text = "{count: 1e3, share: 1, seed: 9000000000000000000, flag: true, part: {flag: true, steps: 2}, sizes: [3]}"
    numbers = load_config(write(tmp_path, text), Numbers)
    assert (numbers.count, numbers.share, numbers.seed) == (1000, 1.0, 9 * 10**18)
    assert (numbers.flag, numbers.part, numbers.sizes) == (True, Part(flag=True, steps=2), [3])
