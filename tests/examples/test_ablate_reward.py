"""The study of grounding, tiny, through its own command line."""

import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETTINGS = ["+ flips"]


def test_it_trains_measures_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import ablate_reward

    arguments = ["--out", str(tmp_path), "--tasks", "scenes", "--seeds", "5", "--size", "0.02"]
    monkeypatch.setattr(sys, "argv", ["ablate_reward.py", *arguments, "--settings", *SETTINGS])
    ablate_reward.main()
    rows = json.loads((tmp_path / "ablation.json").read_text())
    assert [(row["task"], row["setting"], row["seed"]) for row in rows] == [
        ("scenes", "+ flips", 5),
    ]
    tests = {"same", "reversed", "flips", "other_edits", "captions"}
    assert all(set(row["accuracy"]) == tests for row in rows)
    assert all(0 <= value <= 1 for row in rows for value in row["accuracy"].values())
    said = capsys.readouterr().out
    assert "| setting | same | all others | captions | flips | other_edits | reversed |" in said
    # a second time it only reads what it wrote
    done = tmp_path / "scenes-flips-seed5" / "measured.json"
    done.write_text(done.read_text().replace('"seed": 5', '"seed": 5, "kept": true'))
    ablate_reward.main()
    assert json.loads((tmp_path / "ablation.json").read_text())[0]["kept"] is True


def test_the_table_tells_means_and_ranges() -> None:
    sys.path.insert(0, str(EXAMPLES))
    try:
        from ablate_reward import table
    finally:
        sys.path.remove(str(EXAMPLES))
    rows = [
        {"setting": "plain", "accuracy": {"same": same, "flips": flips, "reversed": 0.25}}
        for same, flips in ((0.9, 0.5), (0.8, 0.25))
    ]
    assert table(rows).splitlines() == [
        "| setting | same | all others | flips | reversed |",
        "|---|---|---|---|---|",
        "| plain | 85.0% (80.0% to 90.0%) | 31.2% (25.0% to 37.5%) | 37.5% (25.0% to 50.0%) | "
        "25.0% (25.0% to 25.0%) |",
    ]
