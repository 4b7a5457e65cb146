"""What a config asks for is looked for before data are built and anything is trained."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data_tools.errors import RunError, UserError
from mmrlhf.config import ModelConfig, RunConfig
from mmrlhf.run_checks import check_start
from mmrlhf.training.reward import RewardStage

SECTIONS: dict[str, Any] = {"sft": {}, "reward": {"objectives": ["safety"]}, "ppo": {}}


def config(**changes: Any) -> RunConfig:
    sections = {key: {**SECTIONS.get(key, {}), **value} for key, value in changes.items()}
    return RunConfig.model_validate({"name": "r", "data": "data", **SECTIONS, **sections})


def test_what_is_there_is_taken() -> None:
    check_start(config(ppo={"model": {"lora": {"targets": ["q_proj"], "parts": ["language", "vision"]}}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ppo": {"model": {"lora": {"targets": ["q_prj"]}}}},
            "lora.targets names no linear layer q_prj in language",
        ),
        (
            {"reward": {"model": {"lora": {"parts": ["projector"], "targets": ["q_proj"]}}}},
            "no linear layer q_proj in",
        ),
        (
            {"ppo": {"max_answer_tokens": 4096}},
            "ppo.max_answer_tokens: 4,096 leave no room for a prompt in the 1,024",
        ),
        ({"sft": {"max_answer_tokens": 1024}}, "sft.max_answer_tokens: 1,024 leave no room"),
        (
            {"ppo": {"model": {"max_pixels": 1000}}},
            "model tiny: its image processor takes no min_pixels and max_pix",
        ),
        ({"reward": {"model": {"path": "/nowhere"}}}, "model /nowhere: no such directory"),
    ],
)
def test_what_does_not_suit_the_model(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_start(config(**changes))
    assert message in str(caught.value)


def test_a_stage_of_its_own_does_not_look_at_what_sft_began_from() -> None:
    """The SFT model is there; what it was made from may be gone."""
    gone = config(model={"path": "/nowhere"})
    check_start(gone, "ppo")
    with pytest.raises(UserError, match="model /nowhere: no such directory"):
        check_start(gone, "sft")


OBJECTIVES: list[tuple[dict[str, Any], str]] = [
    (
        {"type": "length", "name": "brief", "unit": "tokens", "target": 5, "tokenizer": "/nowhere"},
        "objective brief: no tokenizer at /nowhere",
    ),
    (
        {"type": "judge", "name": "kind", "criterion": "Is it kind?", "url": "http://localhost:1/v1", "model": "m",
         "token_env": "NOT_SET_HERE"},
        "objective kind: the environment variable NOT_SET_HERE isn't set",
    ),
    (
        {"type": "remote", "name": "far", "url": "http://localhost:1", "objectives": ["b"],
         "token_env": "NOT_SET_HERE"},
        "the environment variable NOT_SET_HERE isn't set",
    ),
    (
        {"type": "clip_score", "name": "clip", "model": "ViT-B-32", "pretrained": "/nowhere/clip.bin"},
        "objective clip: ViT-B-32 with the weights /nowhere/clip.bin can't be loaded",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "message"), OBJECTIVES)
def test_what_an_objective_needs(
    objective: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with pytest.raises((UserError, RunError)) as caught:
        check_start(config(ppo={"objectives": [objective]}))
    assert message in str(caught.value)


def test_a_server_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens at its address; that is told when PPO opens it."""
    monkeypatch.setenv("SET_HERE", "secret")
    remote = {
        "type": "remote",
        "name": "far",
        "url": "http://localhost:1",
        "objectives": ["b"],
        "token_env": "SET_HERE",
    }
    check_start(config(ppo={"objectives": [remote]}))


def test_limits_of_pictures_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="min_pixels 200 is above max_pixels 100"):
        ModelConfig(min_pixels=200, max_pixels=100)


def test_what_the_reward_stage_holds_out_is_looked_at_before_sft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmrlhf.cli import _main

    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: r\noutput_dir: {tmp_path}\ndata: {{sources: [{{type: flip_pairs, count: 6}}, {{type: demonstrations, "
        "images: 4, texts: 0}]}\nsft: {}\nreward: {objectives: [factuality], calibrate: 0.3, min_norm_records: 1}\n"
    )
    monkeypatch.setattr("mmrlhf.pipeline.SftStage", lambda *_: pytest.fail("SFT began"))
    assert _main(["run", str(path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"reward\.calibrate: of the \d+ records that it holds out, \d+ of factuality are decided", said
    )


def test_nothing_is_trained_where_a_later_stage_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends before its data are built."""
    from mmrlhf.cli import _main

    path = tmp_path / "run.yaml"
    path.write_text(
        f"name: r\noutput_dir: {tmp_path}\ndata: {{sources: [{{type: flip_pairs, count: 2}}]}}\nreward: {{}}\n"
        "ppo: {model: {lora: {targets: [q_prj]}}}\n"
    )
    monkeypatch.setattr(RewardStage, "__init__", lambda *_: pytest.fail("the reward stage began"))
    assert _main(["run", str(path)]) == 2
    assert not (tmp_path / "r" / "data").exists()
