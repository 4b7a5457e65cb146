"""A run in its folder: what it refuses to mix, what it knows before it trains, and what a report calls which model."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from data_tools.build import DataConfig, build
from data_tools.config import load_config
from data_tools.errors import UserError
from data_tools.images import encode_png
from data_tools.lock import locked
from data_tools.schema import (
    Comparison,
    ImageRef,
    PreferenceRecord,
    Ranking,
    Rating,
    Response,
    user,
)
from data_tools.shards import write_shards
from mmrlhf.cli import _main
from mmrlhf.config import RunConfig
from mmrlhf.config.metric_names import ppo_metrics, reward_metrics, sft_metrics, wrong_metric
from mmrlhf.pipeline import Run, RunMode
from mmrlhf.preflight import check_data
from mmrlhf.run_folder import changed_settings, differences, fingerprint
from mmrlhf.training.metrics import read_metrics

SPLITS = {"train": 0.5, "test": 0.5}
DATA = {
    "sources": [
        {"type": "demonstrations", "images": 8, "texts": 0, "splits": SPLITS},
        {"type": "flip_pairs", "count": 8, "splits": SPLITS},
        {"type": "prompts", "images": 8, "texts": 8, "splits": SPLITS},
    ]
}
CONFIG = {
    "name": "r",
    "data": DATA,
    "sft": {"batch_size": 4, "max_answer_tokens": 8},
    "reward": {"objectives": ["factuality"], "min_norm_records": 1, "batch_size": 4, "max_answer_tokens": 32},
    "ppo": {"steps": 1, "batch_size": 4, "max_answer_tokens": 6},
    "evaluate": {"prompts": 4, "pairs": 4, "samples": 1},
    "engine": {"tensorboard": False, "mixed_precision": "no"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: the path of its config."""
    folder = tmp_path_factory.mktemp("pipeline")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(folder / "runs")}))
    assert _main(["run", str(path)]) == 0
    return path


def opened(path: Path, *overrides: str, restart: bool = False) -> Run:
    return Run(load_config(path, RunConfig, list(overrides)), RunMode(resume=not restart, restart=restart))


@pytest.mark.parametrize(
    ("override", "stage", "key"),
    [
        ("ppo.kl_coef=0.5", "ppo/balanced", "ppo.kl_coef"),
        ("ppo.variants=[{name: balanced, scalarizer: worst_case}]", "ppo/balanced", "ppo.variants"),
        ("reward.optim.lr=0.5", "reward", "reward.optim.lr"),
        ("reward.model={dtype: float32}", "reward", "model.dtype"),
        ("ppo.objectives=[{type: length, name: brief, target: 3}]", "ppo/balanced", "ppo.objectives"),
        ("ppo.alarms={action: slow}", "ppo/balanced", "ppo.alarms"),  # which changes the learning rate
        ("reward.max_answer_tokens=40", "reward", "reward.max_answer_tokens"),
        ("sft=null", "reward", "an earlier stage"),
        ("reward.model.path=tiny", "reward", "an earlier stage"),
        ("sft.optim.lr=0.5", "sft", "sft.optim.lr"),
        ("model.lora={r: 4}", "sft", "model.lora"),
        ("model.freeze_projector=false", "sft", "model.freeze_projector"),
        ("seed=3", "sft", "seed"),
    ],
)
def test_models_of_other_settings_are_not_evaluated(made: Path, override: str, stage: str, key: str) -> None:
    folder = made.parent / "runs" / "r"
    before = {name: (folder / name).read_bytes() for name in ("config.yaml", "report.html")}
    with pytest.raises(UserError) as caught:
        opened(made, override).evaluate()
    said = str(caught.value)
    assert f"{folder / stage}: was made with other settings ({key})" in said
    assert "--set name=" in said
    assert f"mmrlhf {stage.split('/')[0]} --restart" in said
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_nor_is_anything_trained_on_them(made: Path) -> None:
    runs = [
        (opened(made, "sft.epochs=2").reward, "sft"),
        (opened(made, "sft.epochs=2").ppo, "sft"),
        (opened(made, "reward.center=0.5").ppo, "reward"),
        # PPO itself does without the SFT model, but its reward model doesn't
        (opened(made, "sft.epochs=2", "ppo.model.path=tiny").ppo, "sft"),
    ]
    for train, stage in runs:
        with pytest.raises(UserError, match=rf"/r/{stage}: was made with other settings"):
            train()


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a command on a copy of the finished run once `harm` was done to its folder: its code and what it said."""

    def run(command: list[str], harm: Callable[[Path], object], capfd: pytest.CaptureFixture[str]) -> Any:
        shutil.copytree(made.parent / "runs", tmp_path / "runs")
        harm(tmp_path / "runs" / "r")
        capfd.readouterr()
        code = _main([*command, "--config", str(made), "--set", f"output_dir={tmp_path / 'runs'}"])
        return code, capfd.readouterr().err

    return run


def add_a_digit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))


@pytest.mark.parametrize(
    ("command", "file", "words"),
    [
        (["sft"], "sft/metrics.jsonl", "isn't as the stage wrote it; copy it back from the newest of"),
        (["evaluate", "tradeoffs"], "reward/metrics.jsonl", "isn't as the stage wrote it"),
        (["evaluate", "tradeoffs"], "ppo/balanced/model/config.json", "isn't as it was saved"),
        (["evaluate", "reward"], "reward/model/reward.json", "isn't as it was saved"),
    ],
)
def test_files_of_a_stage_that_were_changed_are_noticed(
    copied: Any, capfd: pytest.CaptureFixture[str], command: list[str], file: str, words: str
) -> None:
    code, err = copied(command, lambda run: add_a_digit(run / file), capfd)
    assert (code, f"{Path(file).name}: {words}" in err) == (2, True), err


def test_a_stage_at_work_keeps_others_out(copied: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.ExitStack() as stack:
        code, err = copied(
            ["ppo"], lambda run: stack.enter_context(locked(run / "ppo/balanced", "training")), capfd
        )
    assert code == 2
    assert f"ppo/balanced: another process is training it (process {os.getpid()} on" in err


def test_what_decides_no_number_may_change(made: Path) -> None:
    run = opened(
        made,
        "evaluate.prompts=2",
        "engine.checkpoint_every=7",
        "engine.keep_checkpoints=1",
        "ppo.alarms={kl: 3, action: stop}",
    )
    folder = run.folder
    assert run.policies() == {
        "sft": str(folder / "sft" / "model"),
        "balanced": str(folder / "ppo" / "balanced" / "model"),
    }


def test_a_restarted_stage_keeps_the_data_of_the_one_before(made: Path) -> None:
    run = opened(made, "data.seed=1", restart=True)
    before = (run.folder / "data" / "manifest.json").read_bytes()
    with pytest.raises(
        UserError, match=r"another config; --set name=... for another run folder, or mmrlhf run"
    ):
        run.reward()
    assert (run.folder / "data" / "manifest.json").read_bytes() == before
    assert (run.folder / "reward" / "model").is_dir()


def test_data_of_another_config_is_refused_with_advice(made: Path) -> None:
    with pytest.raises(
        UserError, match=r"--set name=\.\.\. for another run folder, or --restart to delete it"
    ):
        opened(made, "data.seed=1").sft()


RULES: dict[str, Any] = {
    "name": "rules",
    "data": {"sources": [{"type": "prompts", "images": 3, "texts": 3, "splits": SPLITS}]},
    "ppo": {
        "steps": 1,
        "batch_size": 2,
        "max_answer_tokens": 4,
        "objectives": [{"type": "length", "name": "brief", "target": 3}],
    },
    "engine": {"tensorboard": False, "mixed_precision": "no"},
}


def records_of(folder: Path) -> int:
    return int(json.loads((folder / "data" / "stats.json").read_text())["records"])


def test_ppo_alone_builds_its_data_set_and_builds_it_anew(tmp_path: Path) -> None:
    """With rules for judges and no SFT model nothing is made before it. Another data section is refused, and built
    where the stage begins anew: a run never says of one data set that it was trained on another."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**RULES, "output_dir": str(tmp_path)}))
    folder = tmp_path / "rules"
    assert _main(["ppo", str(path)]) == 0
    assert records_of(folder) == 6
    larger = ["data.sources.0.images=9", "data.seed=7"]
    for more in ([], ["ppo.steps=2"], ["ppo.variants=[{name: other}]"]):
        with pytest.raises(UserError, match=r"holds a data set of another config; .* --restart to delete it"):
            opened(path, *larger, *more).ppo()
    assert load_config(folder / "config.yaml", RunConfig).data == load_config(path, RunConfig).data
    assert records_of(folder) == 6
    opened(path, *larger, restart=True).ppo()
    assert records_of(folder) == 12
    made_of = json.loads((folder / "ppo/balanced/stage.json").read_text())["made_of"]
    assert (made_of["data"]["seed"], made_of["data"]["sources"][0]["images"]) == (7, 9)
    assert load_config(folder / "config.yaml", RunConfig).data.seed == 7  # type: ignore[union-attr]


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.path=no/such/model"], "model no/such/model: "),
        (
            ["model.path={tmp}/text"],
            "/text: is of type gpt2, of which transformers has no image-text-to-text",
        ),
        (["model.path={tmp}/broken"], "/broken: transformers can't read its config"),
    ],
)
def test_a_model_that_is_none_is_told_before_the_data_are_built(
    tmp_path: Path, stage: str, overrides: list[str], message: str
) -> None:
    for name, config in (("text", {"model_type": "gpt2"}), ("broken", {"model_type": "no such type"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "output_dir": str(tmp_path)}))
    only = [f"{name}=null" for name in ("sft", "reward", "ppo", "evaluate") if name not in (stage, "reward")]
    run = opened(path, *(text.format(tmp=tmp_path) for text in overrides), *only)
    for start in (run.all, getattr(run, stage)):
        with pytest.raises(UserError, match=message):
            start()
    assert not (run.folder / "data").exists()


def test_a_policy_does_not_begin_from_a_reward_model(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made.parent / "runs" / "r" / "reward" / "model"
    for stage in ("sft", "ppo"):
        with pytest.raises(UserError, match=r"is a reward model \(reward\.json lies in it\), not a policy"):
            getattr(opened(made, f"{stage}.model.path={folder}"), stage)()
    assert _main(["chat", "--model", str(folder), "What is it?"]) == 2
    assert "is a reward model" in capsys.readouterr().err


def test_every_metric_has_a_name_that_best_by_takes(made: Path) -> None:
    """What the stages of a run wrote, with more of PPO than its defaults make."""
    run = opened(
        made,
        "ppo.answers_per_prompt=2",
        "ppo.ptx_coef=0.1",
        "ppo.kl_in=loss",
        "ppo.kl_estimator=k3",
        "ppo.algorithm={type: ppo, critics: per_objective}",
        "ppo.variants=[{name: more}]",
    )
    run.ppo()
    ppo, reward = run.config.ppo, run.config.reward
    assert ppo
    assert reward
    of_stages = {
        "sft": sft_metrics(),
        "reward": reward_metrics(reward),
        "ppo/more": ppo_metrics(ppo, run.config.objectives),
    }
    for stage, known in of_stages.items():
        rows = read_metrics(run.folder / stage / "metrics.jsonl")
        wrote = {name for row in rows for name in row} - {"step"}
        assert {name: wrong_metric(name, known) for name in wrote if wrong_metric(name, known)} == {}
        assert {"grad_norm", "lr"} <= wrote
    shutil.rmtree(run.folder / "ppo" / "more")


@pytest.mark.parametrize(
    ("section", "by", "message"),
    [
        (
            "sft",
            "-los",
            "sft.best_by: there is no metric 'los'. Did you mean 'loss'? There are cut, grad_norm,",
        ),
        ("sft", "accuracy/factuality", "sft.best_by: there is no metric 'accuracy/factuality'"),
        ("reward", "accuracy", "reward.best_by: there is no metric 'accuracy'. Did you mean 'accuracy/factu"),
        ("reward", "accuracy/factualty", "Did you mean 'accuracy/factuality'?"),
        ("reward", "-blind/loss", "reward.best_by: there is no metric 'blind/loss'"),  # its term is off
        ("ppo", "scores", "ppo.best_by: there is no metric 'scores'. Did you mean 'score'?"),
        ("ppo", "swap_gap/safety", "Did you mean 'swap_gap/factuality'?"),
        ("ppo", "-loss/kl", "ppo.best_by: there is no metric 'loss/kl'"),  # the KL is in the reward
    ],
)
def test_a_metric_that_is_not_there_is_known_before_anything_is_built(
    tmp_path: Path, section: str, by: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    row = {**CONFIG, "output_dir": str(tmp_path), section: {**CONFIG[section], "best_by": by}}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump(row))
    assert _main(["run", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_what_chooses_among_checkpoints_may_change_until_the_stage_is_done() -> None:
    def state(by: str | None, lr: float = 0.1) -> dict[str, Any]:
        made_of = {"sft": {"best_by": by, "optim": {"lr": lr}}}
        return {"made_of": made_of, "fingerprint": fingerprint(made_of)}

    before, free = state("-lr"), ("sft.best_by",)
    assert changed_settings(before, state("-loss")["made_of"]) == "sft.best_by"
    assert changed_settings(before, state("-loss")["made_of"], free) == ""
    assert changed_settings(before, state("-loss", 0.2)["made_of"], free) == "sft.optim.lr"


def test_what_a_stage_was_made_of(made: Path) -> None:
    folder = made.parent / "runs" / "r"
    state = {
        name: json.loads((folder / name / "stage.json").read_text())
        for name in ("sft", "reward", "ppo/balanced")
    }
    assert state["ppo/balanced"]["made_of"]["engine"] == {"mixed_precision": "no"}
    assert state["reward"]["made_of"]["after"] == [state["sft"]["fingerprint"]]
    assert state["ppo/balanced"]["made_of"]["after"] == [
        state["sft"]["fingerprint"],
        state["reward"]["fingerprint"],
    ]


@pytest.mark.parametrize("own", ["{lora: {r: 4}}", "{dtype: float32}"])
def test_a_stage_with_settings_of_its_own_starts_from_the_sft_model(made: Path, own: str) -> None:
    run = opened(made, f"ppo.model={own}", "ppo.variants=[{name: other}]")
    run.ppo()
    made_of = json.loads((run.folder / "ppo/other/stage.json").read_text())["made_of"]
    assert made_of["model"]["path"] == "tiny"  # the run's
    assert len(made_of["after"]) == 2
    assert run.policies()["sft"] == str(run.folder / "sft" / "model")
    # an adapter on the SFT model: its config says what it was put on
    if "lora" in own:
        adapter = next((run.folder / "ppo/other/model").rglob("adapter_config.json"))
        said = json.loads(adapter.read_text())
        assert said["r"] == 4
        assert said["base_model_name_or_path"] == str(run.folder / "sft" / "model")
    shutil.rmtree(run.folder / "ppo" / "other")


def test_the_policy_before_ppo_is_the_one_it_started_from(made: Path) -> None:
    """With a model of its own PPO doesn't start from the SFT model, and the report doesn't say so."""
    run = opened(made, "ppo.model.path=tiny", "ppo.variants=[{name: fresh}]")
    run.ppo()
    assert run.policies() == {"base": "tiny", "fresh": str(run.folder / "ppo/fresh/model")}
    run.evaluate()
    result = json.loads((run.folder / "evaluate" / "tradeoffs.json").read_text())
    assert [policy["name"] for policy in result["policies"]] == ["base", "fresh"]
    assert load_config(run.folder / "config.yaml", RunConfig).before_ppo == "base"


def test_the_reward_model_of_a_run_is_measured_alone(made: Path, tmp_path: Path) -> None:
    folder = made.parent / "runs" / "r"
    assert _main(["evaluate", "reward", str(made), "--pairs", "6", "--conditions", "none"]) == 0
    judged = json.loads((folder / "evaluate" / "reward.json").read_text())
    assert (judged["conditions"], judged["records"], judged["split"]) == (["true", "none"], 6, "test")
    assert (folder / "evaluate" / "reward.html").is_file()
    assert "What the reward model sees" in (folder / "report.html").read_text()
    assert _main(["evaluate", "reward", "--config", str(made), "--out", str(tmp_path / "apart")]) == 0
    apart = json.loads((tmp_path / "apart" / "reward.json").read_text())
    assert (apart["records"], len(apart["conditions"])) == (4, 5)  # as the config says
    assert json.loads((folder / "evaluate" / "reward.json").read_text()) == judged


def test_another_data_set_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    build(DataConfig.model_validate(DATA), data)
    row = {**CONFIG, "output_dir": str(tmp_path), "data": str(data), "ppo": None, "evaluate": None}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(row))
    opened(path).sft()
    build(DataConfig.model_validate({**DATA, "seed": 1}), data, overwrite=True)
    with pytest.raises(UserError, match=r"was made with other settings \(data/manifest\.json\)"):
        opened(path).reward()


def asked(data: str, **sections: Any) -> RunConfig:
    """A config for a few records, unless `reward` says how many a scale takes."""
    if "reward" in sections:
        sections["reward"] = {"min_norm_records": 1, **sections["reward"]}
    return RunConfig.model_validate({"name": "r", "data": data, **sections})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training split of flip pairs: preferences on factuality alone."""
    folder = tmp_path_factory.mktemp("data") / "set"
    source = {"type": "flip_pairs", "count": 3, "splits": {"train": 1}}
    build(DataConfig.model_validate({"sources": [source]}), folder)
    return folder


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"sft": {}}, "sft.learn_from: the train split has no demonstration records; it has preference"),
        (
            {"reward": {"objectives": ["factuality", "beauty", "safety"]}},
            "reward.objectives: no training record judges anything on beauty, safety; judged are factuality",
        ),
        (
            {"reward": {"objectives": ["factuality"]}, "ppo": {"prompts_from": ["preference", "prompt"]}},
            "ppo.prompts_from: the train split has no prompt records; it has preference",
        ),
        (
            {"reward": {"objectives": ["factuality"]}, "evaluate": {}},
            "evaluate.split: there is no split 'test'; there are train: no source puts records there, or those that "
            "are few all fell elsewhere. Give a source of the data 'test' among its splits, such as splits: "
            "{train: 0.9, test: 0.1}, and build it anew, or name a split that there is",
        ),
        (
            {
                "reward": {"objectives": ["factuality"]},
                "ppo": {"prompts_from": ["preference"], "ptx_coef": 0.1},
            },
            "ppo.ptx_coef: the train split has no demonstration records; it has preference",
        ),
        (
            {"reward": {"objectives": ["factuality"], "best_by": "accuracy_ranking/factuality"}},
            "reward.best_by: no training record has a ranking label on factuality, so there is no "
            "accuracy_ranking/factuality",
        ),
        (
            {
                "reward": {"objectives": ["factuality"]},
                "ppo": {"prompts_from": ["preference"], "best_by": "-kl/text"},
            },
            "ppo.best_by: no prompt is of modality text, so there is no kl/text",
        ),
        (
            {"reward": {"objectives": ["factuality"], "mixture": {"type": "adaptive"}}},
            "reward.mixture: adaptive changes nothing here: it needs training preferences of two sources or more, "
            "some with images; there is flip_pairs. Set it to fixed",
        ),
    ],
)
def test_what_the_data_lacks_is_known_before_training(data: Path, sections: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_data(asked(str(data), **sections), data)
    assert str(caught.value) == f"{message} (data set: {data})"


def test_a_split_of_harmful_prompts_that_is_not_there_is_known_before_training(data: Path) -> None:
    with pytest.raises(
        UserError, match=r"evaluate\.safety_split: there is no split 'safe'; there are train: no"
    ):
        check_data(
            asked(str(data), reward={"objectives": ["factuality"]}, evaluate={"safety_split": "safe"}), data
        )


def test_all_that_the_data_lacks_is_told_at_once(data: Path) -> None:
    with pytest.raises(UserError) as caught:
        check_data(asked(str(data), sft={}, reward={"objectives": ["safety"]}, evaluate={}), data)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "sft.learn_from",
        "reward.objectives",
        "evaluate.split",
    ]


def test_the_evaluated_split_needs_what_is_measured(tmp_path: Path) -> None:
    def record(number: int, split: str, **more: Any) -> PreferenceRecord:
        return PreferenceRecord(
            id=f"r{number}", source="s", prompt=(user(f"{number}?"),), split=split, **more
        )

    judged = {"responses": (Response("a"), Response("b")), "comparisons": (Comparison("factuality", 0, 1),)}
    write_shards(
        [record(0, "train", **judged), record(1, "train"), record(2, "test", **judged)], tmp_path / "data"
    )
    config = asked(
        str(tmp_path / "data"),
        reward={"objectives": ["factuality"]},
        ppo={"prompts_from": ["prompt"]},
        evaluate={},
    )
    with pytest.raises(
        UserError, match=r"^evaluate\.split: the test split has no prompt records; it has pref"
    ):
        check_data(config, tmp_path / "data")
    row = config.model_dump()
    row["ppo"]["prompts_from"] = ["preference"]
    check_data(RunConfig.model_validate(row), tmp_path / "data")


def test_prompts_that_no_objective_applies_to_are_told_of(tmp_path: Path) -> None:
    """Judged on text alone, and asked with pictures too; a judge beside the heads may apply to any prompt."""
    image = ImageRef.of_bytes(encode_png(Image.new("RGB", (8, 8))))
    judged = {"responses": (Response("a"), Response("b")), "comparisons": (Comparison("safety", 0, 1),)}
    write_shards(
        [
            PreferenceRecord(id="p", source="s", prompt=(user("A?"),), **judged),
            PreferenceRecord(id="t", source="s", prompt=(user("B?"),)),
            PreferenceRecord(id="i", source="s", prompt=(user(0, "C?"),), images=(image,)),
        ],
        tmp_path / "data",
    )
    sections: dict[str, Any] = {"reward": {"objectives": ["safety"]}, "ppo": {"prompts_from": ["prompt"]}}
    (word,) = check_data(asked(str(tmp_path / "data"), **sections), tmp_path / "data")
    assert word.startswith(
        "ppo.prompts_from: no objective is judged often enough on prompts of modality image-text, so answers"
    )
    sections["ppo"]["objectives"] = [{"type": "length", "name": "brief", "target": 5}]
    assert check_data(asked(str(tmp_path / "data"), **sections), tmp_path / "data") == []


def test_preferences_that_no_head_learns_from_are_told_of(tmp_path: Path) -> None:
    other = dataclasses.replace(LABELLED[0], id="o", source="other")
    write_shards([*LABELLED, other], tmp_path / "data")
    config = asked(str(tmp_path / "data"), reward={"objectives": ["safety"]})
    (word,) = check_data(config, tmp_path / "data")
    assert word.startswith(
        "reward.objectives: no head learns from the 1 training records of other, which judge helpfulness; they take"
    )
    gated = {"objectives": ["safety", "style"], "gate": {"objective": "helpfulness"}}
    assert check_data(asked(str(tmp_path / "data"), reward=gated), tmp_path / "data") == []


def test_a_rating_teaches_a_head_but_no_gate(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rated = [{"prompt": f"{i}?", "completion": "This.", "label": True} for i in range(4)]
    pairs = [{"prompt": f"{i}!", "chosen": "Yes.", "rejected": "No."} for i in range(4)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in rated))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    common = {"type": "trl", "splits": {"train": 1.0}}
    sources = [
        {**common, "name": "rated", "path": str(rows), "objective": "beauty"},
        {**common, "name": "pairs", "path": str(tmp_path / "pairs.jsonl"), "objective": "helpfulness"},
    ]
    build(DataConfig.model_validate({"sources": sources}), tmp_path / "data")
    heads = ["helpfulness", "beauty"]
    good = {"objectives": heads, "gate": {"objective": "helpfulness"}}
    check_data(asked(str(tmp_path / "data"), reward=good), tmp_path / "data")
    config = asked(
        str(tmp_path / "data"), reward={"objectives": [*heads, "safety"], "gate": {"objective": "beauty"}}
    )
    with pytest.raises(UserError) as caught:
        check_data(config, tmp_path / "data")
    assert [line.partition(" (data")[0] for line in str(caught.value).splitlines()] == [
        "reward.objectives: no training record judges anything on safety; judged are beauty, helpfulness",
        "reward.gate.objective: no training record compares answers on beauty; compared are helpfulness",
    ]


def test_nothing_is_trained_where_the_data_lacks_something(tmp_path: Path) -> None:
    row = {**CONFIG, "output_dir": str(tmp_path), "reward": {"objectives": ["factuality", "safety"]}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(row))
    starts: list[Callable[[], object]] = [opened(path).all, opened(path).sft]
    for start in starts:
        with pytest.raises(UserError, match=r"reward\.objectives: .* on safety; judged are factuality"):
            start()
    assert not (tmp_path / "r" / "sft").exists()


def test_differences_are_named_by_their_path() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 0}
    assert differences(old, {"a": {"b": 2, "c": [1, 2]}, "e": 0, "d": 0}) == ["a.b", "e"]
    assert differences(old, {"a": {"b": 1, "c": [2, 1]}, "d": 0}) == ["a.c"]
    assert differences(old, old) == []


def labelled(number: int, images: int = 0, **labels: Any) -> PreferenceRecord:
    picture = ImageRef.of_bytes(encode_png(Image.new("RGB", (8, 8), (number, 0, 0))))
    prompt = (user(*range(images), f"{number}?"),)
    answers = (Response("a"), Response("b"))
    return PreferenceRecord(f"r{number}", "s", prompt, answers, (picture,) * images, **labels)


def test_a_kind_of_prompt_that_hardly_any_record_judges_is_told_of(tmp_path: Path) -> None:
    """Twenty pairs with a picture and one whose picture was forgotten."""
    shown = [labelled(i, images=1, comparisons=(Comparison("style", 0, 1),)) for i in range(20)]
    write_shards([*shown, labelled(99, comparisons=(Comparison("style", 0, 1),))], tmp_path / "a")
    reward = {"objectives": ["style"], "min_norm_records": 20}
    (word,) = check_data(asked(str(tmp_path / "a"), reward=reward), tmp_path / "a")
    assert word.startswith(
        "reward.min_norm_records: style will abstain on prompts of modality text, since fewer"
    )
    write_shards(shown[1:], tmp_path / "b")
    with pytest.raises(
        UserError, match=r"min_norm_records: style is judged on 19 of modality image-text training rec"
    ):
        check_data(asked(str(tmp_path / "b"), reward=reward), tmp_path / "b")


LABELLED = [
    labelled(0, comparisons=(Comparison("helpfulness", 0, 1),)),
    labelled(1, rankings=(Ranking("truth", ((0,), (1,))),)),
    labelled(2, ratings=(Rating("style", 0, 2, 0, 3),)),
    labelled(3, ratings=(Rating("safety", 0, 1, 0, 1, kind="binary"),)),
    labelled(4, images=1, rankings=(Ranking("safety", ((0,), (1,))),)),
]


@pytest.mark.parametrize(
    ("reward", "messages"),
    [
        (
            {"objectives": ["style", "helpfulness"], "weights": {"rating": 0}},
            [
                "reward.weights: style can't be learnt; on it training records hold rating labels, which weigh 0",
            ],
        ),
        (
            {"objectives": ["helpfulness", "style"], "cost_heads": ["helpfulness", "style"]},
            [
                "reward.cost_heads: no training record of modality text says yes or no on helpfulness, style with a "
                "weight (reward.weights.binary) above 0, so nothing says where its 0 lies there; add such labels, or "
                "take it off the list",
            ],
        ),
        (
            {"objectives": ["safety"], "cost_heads": ["safety"]},
            [
                "reward.cost_heads: no training record of modality image-text says yes or no on safety with a weight "
                "(reward.weights.binary) above 0, so nothing says where its 0 lies there; add such labels, or take it "
                "off the list",
            ],
        ),
        (
            {"objectives": ["truth"], "grounding": {"length": 0.1, "reweight": {"weight": 1.0}}},
            [
                "reward.grounding.length: must be 0, since no training record compares two responses on a learnt "
                "objective with a weight (reward.weights.pair) above 0; rankings don't count here",
                "reward.grounding.reweight.weight: must be 0, since no training record with images compares two "
                "responses on a learnt objective with a weight (reward.weights.pair) above 0; rankings don't count "
                "here",
            ],
        ),
        (
            {"objectives": ["truth"], "margin_scale": 0.5},
            [
                "reward.margin_scale: must be 0, since no training record compares two responses on a learnt objective "
                "with a weight (reward.weights.pair) above 0; rankings don't count here",
            ],
        ),
        (
            {"objectives": ["truth", "helpfulness"], "grounding": {"image_conditional": {"weight": 0.5}}},
            [
                "reward.grounding.image_conditional.weight: must be 0, since no training record with images compares "
                "responses on helpfulness, truth with a weight (reward.weights) above 0",
            ],
        ),
        ({"objectives": ["safety"], "grounding": {"image_conditional": {"weight": 0.5}}}, []),
        ({"objectives": ["helpfulness"], "grounding": {"length": 0.1}}, []),
        ({"objectives": ["truth", "style", "safety"], "weights": {"pair": 0}}, []),
    ],
)
def test_what_a_head_could_not_learn_from_is_known_before_training(
    tmp_path: Path, reward: dict[str, Any], messages: list[str]
) -> None:
    data = tmp_path / "data"
    write_shards(LABELLED, data)
    config = asked(str(data), reward=reward)
    if not messages:
        check_data(config, data)
        return
    with pytest.raises(UserError) as caught:
        check_data(config, data)
    assert [line.partition(" (data set")[0] for line in str(caught.value).splitlines()] == messages


def test_an_older_manifest_may_hold_either_kind_of_rating(tmp_path: Path) -> None:
    """It counts no yes or no apart; what can't be known isn't refused."""
    data = tmp_path / "data"
    write_shards([labelled(3, ratings=(Rating("safety", 0, 1, 0, 1, kind="binary"),))], data)
    row = json.loads((data / "manifest.json").read_text())
    for shard in row["shards"]:
        assert shard.pop("binaries") == {"safety": 1}
    (data / "manifest.json").write_text(json.dumps(row))
    reward = {"objectives": ["safety"], "cost_heads": ["safety"]}
    check_data(asked(str(data), reward=reward), data)
    check_data(asked(str(data), reward={**reward, "weights": {"rating": 0}}), data)
