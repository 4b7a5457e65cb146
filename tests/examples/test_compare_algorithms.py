"""The study of the algorithms, tiny, through its own command line."""

import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = [
    "data.sources=[{type: demonstrations, images: 12, texts: 6}, {type: flip_pairs, count: 12}, "
    "{type: text_pairs, count: 12}, {type: coverage_pairs, count: 12}, {type: prompts, images: 40, texts: 12}]",
    "data.balance=null",
    "sft.batch_size=8",
    "reward.batch_size=8",
    "reward.min_norm_records=1",
    "ppo.max_answer_tokens=8",
    "ppo.batch_size=4",
    "ppo.answers_per_prompt=2",
    "evaluate.prompts=6",
    "evaluate.pairs=6",
    "evaluate.safety_split=null",
]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_it_compares_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import compare_algorithms

    sets = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["--out", str(tmp_path), "--seeds", "3", "--algorithms", "ppo", "rloo", "--steps", "2", *sets]
    monkeypatch.setattr(sys, "argv", ["compare_algorithms.py", *arguments])
    compare_algorithms.main()
    rows = json.loads((tmp_path / "algorithms.json").read_text())
    assert [(row["algorithm"], row["seed"], len(row["curves"])) for row in rows] == [
        ("ppo", 3, 2),
        ("rloo", 3, 2),
    ]
    # both start from the same SFT model
    assert rows[0]["true_claims"]["before"] == rows[1]["true_claims"]["before"]
    assert rows[0]["curves"] != rows[1]["curves"]
    assert (tmp_path / "algorithms.png").stat().st_size > 10_000
    assert "| rloo | 3 |" in capsys.readouterr().out
