from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from data_tools.build import DataConfig, build
from data_tools.config import apply_overrides, dump_yaml, load_config, parse_config, read_yaml
from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, user
from data_tools.source import Source


class Questions(Source):
    """A user's own source."""

    questions: tuple[str, ...] = ("why?",)

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        for number, question in enumerate(self.questions):
            yield PreferenceRecord(f"{self.name}-{number}", self.name, (user(question),))


class Riddles(Questions):
    """Another one, with the same settings."""

    type: Literal["riddles"] = "riddles"

    class Short(Questions):
        """One that stands in another class."""


class Borrowing(Questions):
    """A source whose records name another one."""

    def generate(self, seed: int) -> Iterator[PreferenceRecord]:
        yield PreferenceRecord("x", "elsewhere", (user("why?"),))


def own(name: str) -> DataConfig:
    row = {"type": f"{__name__}:{name}", "name": "own", "questions": ["who?", "what?"]}
    return parse_config({"sources": [row, {"type": "flip_pairs", "count": 1}]}, DataConfig, "test")


@pytest.mark.parametrize("name", ["Questions", "Riddles", "Riddles.Short"])
def test_a_class_of_ones_own_is_written_and_read_back(name: str, tmp_path: Path) -> None:
    config = own(name)
    report = build(config, tmp_path / "d")
    text = (tmp_path / "d" / "config.yaml").read_text()
    assert f"type: {__name__}:{name}\n" in text
    again = load_config(tmp_path / "d" / "config.yaml", DataConfig)
    assert again == config
    assert type(again.sources[0]) is type(config.sources[0])
    assert build(again, tmp_path / "d").existing
    assert report.counts["train/prompt/text"] + report.counts.get("test/prompt/text", 0) == 2


def test_two_classes_of_the_same_settings_are_told_apart(tmp_path: Path) -> None:
    assert own("Questions").model_dump(mode="json") != own("Riddles").model_dump(mode="json")
    build(own("Questions"), tmp_path / "d")
    with pytest.raises(UserError, match="another config"):
        build(own("Riddles"), tmp_path / "d")


def test_a_member_of_the_family_keeps_its_short_name() -> None:
    row = {"type": "data_tools.synth.flip_pairs:FlipPairs", "count": 1}
    config = parse_config({"sources": [row]}, DataConfig, "test")
    assert config == parse_config({"sources": [{"type": "flip_pairs", "count": 1}]}, DataConfig, "test")
    assert "- type: flip_pairs\n" in dump_yaml(config)


def test_a_record_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="source own: its record x is of 'elsewhere'"):
        build(own("Borrowing"), tmp_path / "d")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("seed: 1\nname: {{ run }}\n", 2, "a key must be a plain word, not a mapping or list; a template"),
        ("? [a, b]\n: 3\n", 1, "a key must be a plain word"),
        ("base: &base {a: 1}\nrun:\n  <<: *base\n", 3, r"merge keys \(<<\) are not supported"),
        ("a: 1\n\na: 2\n", 3, r"the key 'a' stands twice \(first on line 1\)"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "expected ',' or ']'"),
        ("a: 1\nb: !command x\n", 2, "could not determine a constructor for the tag '!command'"),
    ],
)
def test_yaml_that_is_refused_is_told_with_file_and_line(
    text: str, line: int, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=why) as told:
        read_yaml(path)
    assert str(told.value).startswith(str(path))
    assert f"line {line}" in str(told.value)


@pytest.mark.parametrize("text", ["a: 2001-99-99\n", "a: !!int x\n", "a: \x00\n", "[" * 5000])
def test_no_yaml_raises_anything_else(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"run\.yaml is not valid YAML"):
        read_yaml(path)


def test_a_template_as_an_override() -> None:
    with pytest.raises(
        UserError, match=r"--set name=\{\{ x \}\}: the value, line 1: a key must be a plain word"
    ):
        apply_overrides({}, ["name={{ x }}"])
