"""Runs whose answers are judged by other objectives than a reward model's heads, through the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_tools.config import load_config, parse_config
from data_tools.errors import UserError
from mmrlhf.cli import _main
from mmrlhf.config import RunConfig

SPLITS = {"train": 0.5, "test": 0.5}
DATA = {"sources": [{"type": "prompts", "images": 12, "texts": 8, "splits": SPLITS}]}
CODE = """
def few_words(prompts, responses, images):
    assert len(prompts) == len(responses) == len(images)
    return [-float(len(text.split())) for text in responses]
"""
OBJECTIVES: list[dict[str, Any]] = [
    {"type": "oracle", "name": "exact", "objective": "factuality"},
    {"type": "few_words_module:few_words", "name": "brevity", "mean": -5.0, "std": 5.0},
    {"type": "format", "name": "sentences", "max_sentences": 2},
]
CONFIG = {
    "name": "r",
    "data": DATA,
    "ppo": {
        "objectives": OBJECTIVES,
        "variants": [{"name": "balanced", "scalarizer": {"type": "weighted_sum", "weights": {"exact": 3}}}],
        "steps": 2,
        "batch_size": 4,
        "max_answer_tokens": 8,
    },
    "evaluate": {"prompts": 6, "samples": 1},
    "engine": {"tensorboard": False, "mixed_precision": "no"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of a user, with a module of theirs and a finished run."""
    folder = tmp_path_factory.mktemp("verifiers")
    (folder / "few_words_module.py").write_text(CODE)
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "runs")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", sys.path[:])
        assert _main(["run", str(path)]) == 0
        yield folder
        sys.modules.pop("few_words_module", None)


def test_a_run_without_a_reward_model(folder: Path) -> None:
    run = folder / "runs" / "r"
    assert sorted(path.name for path in run.iterdir()) == [
        "config.yaml",
        "data",
        "evaluate",
        "ppo",
        "report.html",
    ]
    rows = [json.loads(line) for line in (run / "ppo/balanced/metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    names = {name for row in rows for name in row}
    assert {"reward/exact/image-text", "reward/brevity/image-text", "reward/sentences/image-text"} <= names
    assert {"reward/brevity/text", "swap_gap/exact", "swap_gap/brevity", "swap_gap/sentences"} <= names
    assert "reward/exact/text" not in names  # the oracle's factuality doesn't apply to text
    assert {row["swap_gap/sentences"] for row in rows if "swap_gap/sentences" in row} == {0.0}
    made_of = json.loads((run / "ppo/balanced/stage.json").read_text())["made_of"]
    assert made_of["after"] == []
    assert [row["name"] for row in made_of["ppo"]["objectives"]] == ["exact", "brevity", "sentences"]
    assert len(made_of["ppo"]["objectives"][1]["code"]) == 64


def test_it_is_evaluated_on_all_objectives(folder: Path) -> None:
    run = folder / "runs" / "r"
    result = json.loads((run / "evaluate" / "tradeoffs.json").read_text())
    assert result["objectives"] == ["exact", "brevity", "sentences"]
    assert not (run / "evaluate" / "reward.json").exists()
    before, after = result["policies"]
    assert [before["name"], after["name"]] == ["base", "balanced"]
    for policy in (before, after):
        assert policy["learned"].keys() == {"exact", "brevity", "sentences"}
        for answer in policy["answers"]:
            words = len(answer["text"].split())
            assert answer["rewards"]["brevity"] == pytest.approx((5 - words) / 5)
            if answer["modality"] == "image-text":
                assert answer["rewards"]["exact"] == pytest.approx(answer["gold"]["factuality"])
                assert "sentences" not in answer["swap_gap"]  # it reads words alone
    assert "exact" in (run / "report.html").read_text()
    assert _main(["evaluate", "tradeoffs", "--config", str(folder / "run.yaml")]) == 0


def test_the_run_reads_back_its_config(folder: Path) -> None:
    config = load_config(folder / "runs" / "r" / "config.yaml", RunConfig)
    assert config == load_config(folder / "run.yaml", RunConfig)
    assert config.objectives == ["exact", "brevity", "sentences"]


def test_other_objectives_make_another_stage(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for change in ("ppo.objectives.2.max_sentences=3", "ppo.objectives.1.std=4.0"):
        capfd.readouterr()
        assert _main(["ppo", "--config", str(folder / "run.yaml"), "--resume", "--set", change]) == 2
        assert "was made with other settings (ppo.objectives)" in " ".join(capfd.readouterr().err.split())
    # other code of the function, too; and not that of what stands beside it
    module = folder / "few_words_module.py"
    for code, done in ((CODE + "\nOTHER = 1\n", 0), (CODE.replace("-float(", "-2 * float("), 2), (CODE, 0)):
        module.write_text(code)
        sys.modules.pop("few_words_module")
        import importlib
        import linecache

        importlib.invalidate_caches()
        linecache.clearcache()
        assert _main(["ppo", "--config", str(folder / "run.yaml"), "--resume"]) == done


def told(**sections: Any) -> str:
    with pytest.raises(UserError) as caught:
        parse_config({"name": "r", "data": "d", **sections}, RunConfig, "run.yaml")
    return str(caught.value)


def test_names_are_used_once() -> None:
    exact = {"type": "oracle", "name": "exact", "objective": "safety"}
    beside = {"reward": {"objectives": ["safety"]}, "ppo": {"objectives": [{**exact, "name": "safety"}]}}
    assert told(**beside) == (
        "run.yaml: ppo.objectives.0: safety is the name of one in reward.objectives too; choose another"
    )
    assert told(ppo={"objectives": [exact, exact]}) == (
        "run.yaml: ppo.objectives.1: exact is the name of one in ppo.objectives too; choose another"
    )


def test_scalarizers_know_all_objectives() -> None:
    weights = {"type": "weighted_sum", "weights": {"truth": 2.0, "exact": 1.0, "beauty": 1.0}}
    said = told(
        reward={"objectives": ["truth"]},
        ppo={
            "objectives": [{"type": "oracle", "name": "exact", "objective": "safety"}],
            "variants": [{"name": "a", "scalarizer": weights}],
        },
    )
    assert said.endswith("weighted_sum.weights: no objective beauty; there are truth, exact")
    assert "ppo.variants.0.scalarizer" in said


def test_an_objective_is_made_from_the_base() -> None:
    said = told(ppo={"objectives": [{"type": "mmrlhf.rewards.scalarizers:WorstCase"}]})
    assert "ppo.objectives.0: WorstCase is not made from mmrlhf.rewards.objectives.base:ObjectiveBase" in said


def test_help_lists_them(capfd: pytest.CaptureFixture[str]) -> None:
    assert _main(["config", "ppo.objectives"]) == 0
    out = " ".join(capfd.readouterr().out.split())
    for kind in ("oracle", "exact_match", "format", "length", "clip_score", "judge", "function"):
        assert f"ppo.objectives.{kind}: " in out
    assert _main(["config", "ppo.objectives.length"]) == 0
    out = " ".join(capfd.readouterr().out.split())
    assert "target int >= 1 required the length that is wanted" in out


def test_a_function_that_fails_stops_the_run_by_name(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "failing_module.py").write_text("def f(prompts, responses, images):\n    return [0.0]\n")
    row = {**CONFIG, "name": "failing", "output_dir": str(folder / "runs"), "evaluate": None}
    row["ppo"] = {"objectives": [{"type": "failing_module:f", "name": "own"}], "steps": 1, "batch_size": 4}
    (folder / "failing.yaml").write_text(yaml.safe_dump(row))
    assert _main(["run", str(folder / "failing.yaml")]) == 1
    err = capfd.readouterr().err
    assert "error: objective own: gave 1 rewards for 4 answers" in " ".join(err.split())
    assert "Traceback" not in err


def test_what_is_missing_is_told_before_the_first_step(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    judge = {
        "type": "judge",
        "name": "taste",
        "url": "http://127.0.0.1:9/",
        "model": "m",
        "token_env": "NO_SUCH",
    }
    row = {**CONFIG, "name": "closed", "output_dir": str(folder / "runs"), "evaluate": None}
    row["ppo"] = {"objectives": [judge], "steps": 1, "batch_size": 4}
    (folder / "closed.yaml").write_text(yaml.safe_dump(row))
    assert _main(["run", str(folder / "closed.yaml")]) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "error: objective taste: the environment variable NO_SUCH isn't set" in said
    assert not (folder / "runs" / "closed" / "ppo" / "balanced" / "metrics.jsonl").exists()
