"""`mmrlhf data convert --from auto`: what it looks at, and what it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_tools.adapters.recognise import recognise
from data_tools.cli import app
from data_tools.errors import UserError

FIXTURES = Path(__file__).parent / "fixtures"
TRL = {"prompt": "q", "chosen": "a", "rejected": "b"}
HH = {key: f"\n\nHuman: q\n\nAssistant: {key}" for key in ("chosen", "rejected")}


def convert(source: Path, out: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["convert", "--from", "auto", str(source), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_format_is_that_of_the_split_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"train": [HH, HH], "test": [TRL]}))
    assert "taken for trl: 1 of the first 1 rows" in convert(path, tmp_path / "a", "--set", "split=test")
    told = convert(path, tmp_path / "b", "--set", "split=train", "--max-rejected", "1")
    assert "taken for hh_rlhf: 2 of the first 2 rows" in told


def test_it_tells_what_the_labels_are_called(tmp_path: Path) -> None:
    told = convert(FIXTURES / "hh_rlhf.jsonl", tmp_path / "hh", "--max-rejected", "1")
    assert "its labels are written with objective 'safety', judge 'human'; --set objective=NAME" in told
    told = convert(
        FIXTURES / "rlaif_v.jsonl", tmp_path / "rlaif", "--max-rejected", "1", "--set", "judge=llava-next"
    )
    assert "written with objective 'factuality', judge 'llava-next'; --set objective=NAME" in told
    told = convert(FIXTURES / "pku_saferlhf.jsonl", tmp_path / "pku", "--max-rejected", "1")
    assert (
        "its labels are written with judge 'human'; --set judge=NAME" in told
    )  # its rows say what was asked


@pytest.mark.parametrize("extra", [{}, {"id": 42}])
def test_pairs_about_pictures_are_not_taken_for_safety(tmp_path: Path, extra: dict[str, Any]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({**extra, "image": "a.png", "question": "q", "chosen": "a", "rejected": "b"}))
    with pytest.raises(
        UserError, match=r"no known format.*may be spa_vl, or another set with these fields.*--from NAME"
    ):
        recognise(path)
