"""What people write for a path is the same place in every config and every option, or it is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from command_lines import Tell

from data_tools.build.config import DataConfig
from data_tools.config import Config, apply_overrides, parse_config
from data_tools.errors import UserError
from data_tools.paths import expand_path, user_path
from mmrlhf.cli import app
from mmrlhf.config import ModelConfig, RunConfig
from mmrlhf.rewards.objectives.clip_score import ClipScore
from mmrlhf.rewards.objectives.length import Length


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder and a variable of the test's, in an empty working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DATA", "/big/data")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_forms(places: Path) -> None:
    home = str(places / "home")
    assert expand_path("~") == home
    assert expand_path("~/a b/c.json") == f"{home}/a b/c.json"
    assert expand_path("$DATA/x") == expand_path("${DATA}/x") == "/big/data/x"
    assert expand_path("${DATA}_old/$DATA") == "/big/data_old//big/data"
    assert expand_path("file:///a%20b/c.png") == expand_path("file://localhost/a b/c.png") == "/a b/c.png"
    for as_it_is in ("runs", "./~x", "a/~/b", "owner/name", "tiny", "a$", "cost in $ 5", "C:\\x", ""):
        assert expand_path(as_it_is) == as_it_is


def test_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^\$NOWHERE/x: the environment variable NOWHERE isn't set"):
        expand_path("$NOWHERE/x")
    with pytest.raises(UserError, match="no home folder of '~nobody-has-this'"):
        expand_path("~nobody-has-this/x")
    with pytest.raises(UserError, match="names the machine 'elsewhere'"):
        expand_path("file://elsewhere/x")


def test_a_file_that_is_there_keeps_its_name(places: Path) -> None:
    for name in ("$NOWHERE.json", "~backup.json"):
        (places / "work" / name).write_text("")
        assert expand_path(name) == name


def test_configs(places: Path) -> None:
    home = str(places / "home")
    row: dict[str, Any] = {
        "name": "r",
        "output_dir": "$DATA/runs",
        "model": {"path": "~/model"},
        "data": "~/mix",
        "sft": {"model": {"path": "${DATA}/other"}},
    }
    run = parse_config(row, RunConfig, "here")
    assert (run.output_dir, run.model.path, run.data) == ("/big/data/runs", f"{home}/model", f"{home}/mix")
    assert run.sft is not None
    assert run.sft.model is not None
    assert run.sft.model.path == "/big/data/other"
    assert parse_config(run.model_dump(mode="json"), RunConfig, "again") == run
    source = {"type": "trl", "name": "t", "path": "~/rows.jsonl", "images": "$DATA/img"}
    data = parse_config(
        {"sources": [source], "remedies": [{"type": "contamination", "against": ["~/bench"]}]}, DataConfig, ""
    )
    assert data.sources[0].model_dump()["path"] == places / "home/rows.jsonl"
    assert data.sources[0].model_dump()["images"] == Path("/big/data/img")
    assert data.remedies[0].model_dump()["against"] == [places / "home/bench"]
    assert ModelConfig(path="owner/name").path == "owner/name"
    assert Length(name="short", target=3, unit="tokens", tokenizer="~/t").tokenizer == f"{home}/t"
    assert ClipScore(name="clip", model="local-dir:~/clip").model == f"local-dir:{home}/clip"
    assert ClipScore(name="clip", pretrained="$DATA/w.pt").pretrained == "/big/data/w.pt"


def test_an_override_and_its_key() -> None:
    row = apply_overrides({"name": "r", "data": "mix"}, ["output_dir=$NOWHERE/x"])
    with pytest.raises(UserError, match=r"output_dir: .*NOWHERE isn't set"):
        parse_config(row, RunConfig, "here")
    source = {"type": "trl", "name": "t", "path": "$NOWHERE/rows"}
    with pytest.raises(UserError, match=r"sources\.0\.path: .*NOWHERE isn't set"):
        parse_config({"sources": [source]}, DataConfig, "here")


def test_a_field_of_a_users_adapter(places: Path) -> None:
    class Mine(Config):
        more: list[Path] | None = None
        note: str = ""

    mine = Mine.model_validate({"more": ["~/a", "b"], "note": "~ and $NOWHERE stay in texts"})
    assert mine.more == [places / "home/a", Path("b")]
    assert mine.note == "~ and $NOWHERE stay in texts"
    with pytest.raises(ValueError, match="NOWHERE isn't set"):
        Mine.model_validate({"more": ["$NOWHERE"]})


def _registered(group: Any) -> Iterator[Any]:
    for info in group.registered_commands:
        yield info.callback
    for info in group.registered_groups:
        yield from _registered(info.typer_instance)


def test_every_path_of_the_command_line_is_expanded() -> None:
    seen = 0
    for callback in _registered(app):
        for name, annotation in get_type_hints(callback, include_extras=True).items():
            kind, *metadata = get_args(annotation) or (annotation,)
            if Path in (kind, *get_args(kind)) or kind == list[Path] | None:
                assert metadata[0].parser is user_path, f"{callback.__name__}: {name} isn't expanded"
                seen += 1
    assert seen > 15


def test_no_folder_of_that_name_appears(tell: Tell, places: Path) -> None:
    pairs = '{"prompt": "Which?", "chosen": "This one.", "rejected": "That one."}\n'
    (places / "home/pairs.jsonl").write_text(pairs)
    config = places / "home/data.yaml"
    config.write_text("sources: [{type: trl, name: t, path: ~/pairs.jsonl}]\n")
    assert tell("data", "build", "~/data.yaml", "--out=~/built")[0] == 0
    assert (places / "home/built/manifest.json").is_file()
    assert tell("data", "convert", "--from", "auto", "$HOME/pairs.jsonl", "-o", "$HOME/converted")[0] == 0
    assert (places / "home/converted/manifest.json").is_file()
    code, _, err = tell("data", "stats", "$NOWHERE/x")
    assert (code, "NOWHERE isn't set" in err) == (2, True)
    assert list((places / "work").iterdir()) == []
